#!/usr/bin/env bash
# Writes constraints.txt: the versions that the tests ran with, for `pip install --constraint`.
set -euo pipefail
cd "$(dirname "$0")/.."
{
    echo "# The versions that the tests ran with. Written by scripts/freeze_constraints.sh; names and versions only."
    .venv/bin/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' | sort -f
} > constraints.txt
