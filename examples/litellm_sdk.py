import litellm

question = [{"role": "user", "content": "What is a cache?"}]
print(litellm.completion("openai/gpt-4o-mini", messages=question, temperature=0).choices[0].message.content)
