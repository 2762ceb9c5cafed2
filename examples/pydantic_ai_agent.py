from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

agent = Agent(OpenAIChatModel("gpt-4o-mini"), model_settings={"temperature": 0})
print(agent.run_sync("What is a cache?").output)
