import os

from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

base = os.environ["OPENAI_BASE_URL"]
print(OpenAI(model="gpt-4o-mini", temperature=0, api_base=base).complete("What is a cache?").text)
print(OpenAIEmbedding(model="text-embedding-3-small", api_base=base).get_text_embedding("a cache")[:3])
