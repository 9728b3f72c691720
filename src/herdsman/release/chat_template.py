"""The chat template of the Hugging Face export: the same ids as `tokens.chat.encode`, through one Jinja text.

A template can only write text that is tokenized afterwards, so a message that spells a special token would become one
there, as it does for every model on the Hub; Herdsman's own encoder never lets that happen.
"""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- set role = "ipython" if message["role"] == "tool" else message["role"] %}
    {{- "<|start_header_id|>" + role + "<|end_header_id|>\\n\\n" + message["content"] + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""
