from openai import OpenAI

question = [{"role": "user", "content": "What is a cache?"}]
answer = OpenAI().chat.completions.create(model="gpt-4o-mini", temperature=0, messages=question)
print(answer.choices[0].message.content, answer.usage.total_tokens)
