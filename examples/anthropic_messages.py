from anthropic import Anthropic

question = [{"role": "user", "content": "What is a cache?"}]
asked = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": question, "extra_body": {"temperature": 0}}
answer = Anthropic().messages.create(**asked)
print(answer.content[0].text, answer.stop_reason, answer.usage.output_tokens)
