from openai import OpenAI

with OpenAI().responses.stream(model="gpt-4o-mini", temperature=0, input="What is a cache?") as stream:
    print([event.type for event in stream])
    print(stream.get_final_response().output_text)
