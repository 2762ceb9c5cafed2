import instructor
from pydantic import BaseModel

Answer = type("Answer", (BaseModel,), {"__annotations__": {"text": str}})
client = instructor.from_provider("openai/gpt-4o-mini", mode=instructor.Mode.TOOLS)
print(client.create(messages=[{"role": "user", "content": "A cache?"}], response_model=Answer, temperature=0))
