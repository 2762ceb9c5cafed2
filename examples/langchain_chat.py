from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="gpt-4o-mini", temperature=0)
print(model.invoke("What is a cache?").content)
print("".join(chunk.content for chunk in model.stream("What is a cache?")))
