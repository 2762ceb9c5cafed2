from openai import OpenAI

question = [{"role": "user", "content": "What is a cache?"}]
with OpenAI().chat.completions.stream(model="gpt-4o-mini", temperature=0, messages=question) as stream:
    print([event.type for event in stream], stream.get_final_completion().choices[0].message.content)
