from anthropic import Anthropic

question = [{"role": "user", "content": "What is a cache?"}]
asked = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": question, "extra_body": {"temperature": 0}}
with Anthropic().messages.stream(**asked) as stream:
    print(list(stream.text_stream), stream.get_final_message().stop_reason)
