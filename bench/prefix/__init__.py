"""What the prefix tier is worth: traffic of several applications before simulated fleets of providers and engines."""
