from openai import OpenAI

answer = OpenAI().embeddings.create(model="text-embedding-3-small", input=["a cache", "a proxy"])
print([item.embedding[:3] for item in answer.data], answer.usage.total_tokens)
