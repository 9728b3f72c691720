"""The chat template of the Hugging Face export: the same ids as `tokens.chat.encode`, through one Jinja text.

It takes what transformers and llama.cpp pass: `tools`, `builtin_tools` (of Llama 3.1's names) and
`tool_calls` and role `tool` in messages, and `today`, a date to tell the model: not under the name `date_string`, which
llama.cpp always sets. llama.cpp knows by the header of `ipython` that calls are Llama 3's.

A template can only write text that is tokenized afterwards. So a message that spells a special token would become one
there, as it does for every model on the Hub, and one that begins with a line end would melt into the header's;
Herdsman's own encoder lets neither happen.
"""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set system = none %}
{%- if messages and messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- set told = "" %}
{%- if tools or builtin_tools %}
    {%- set told = "Environment: ipython" %}
{%- endif %}
{%- if builtin_tools %}
    {%- set named = builtin_tools | reject("equalto", "code_interpreter") | join(", ") %}
    {%- if named %}
        {%- set told = told + "\\nTools: " + named %}
    {%- endif %}
{%- endif %}
{%- if today %}
    {%- set told = told + ("\\n" if told else "") + "Today Date: " + today %}
{%- endif %}
{%- if told and system %}
    {%- set system = told + "\\n\\n" + system %}
{%- elif told %}
    {%- set system = told %}
{%- endif %}
{%- if system is not none %}
    {{- "<|start_header_id|>system<|end_header_id|>\\n\\n" + system + "<|eot_id|>" }}
{%- endif %}
{%- if tools %}
    {{- "<|start_header_id|>user<|end_header_id|>\\n\\n" }}
    {{- "Answer the user's question by making use of the following functions if needed.\\n" }}
    {{- "If none of the function can be used, please say so.\\n" }}
    {{- "Here is a list of functions in JSON format:\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) + "\\n" }}
    {%- endfor %}
    {{- "\\nReturn function calls in JSON format.<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- set calls = message["tool_calls"] %}
    {%- if message["role"] == "tool" or message["role"] == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" + message["content"] + "<|eot_id|>" }}
    {%- elif calls %}
        {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" + (message["content"] or "") + "<|python_tag|>" }}
        {%- set name = calls[0]["function"]["name"] %}
        {%- set arguments = calls[0]["function"]["arguments"] %}
        {%- set alone = calls | length == 1 and arguments is mapping and arguments | length == 1 %}
        {%- if alone and name in ["brave_search", "wolfram_alpha"] and arguments["query"] is string %}
            {{- name + ".call(query=" + arguments["query"] | tojson + ")" }}
        {%- elif alone and name == "code_interpreter" and arguments["code"] is string %}
            {{- arguments["code"] }}
        {%- else %}
            {%- for call in calls %}
                {%- set arguments = call["function"]["arguments"] %}
                {{- "; " if not loop.first else "" }}
                {{- '{"type": "function", "name": ' + call["function"]["name"] | tojson + ', "parameters": ' }}
                {{- (arguments if arguments is string else arguments | tojson) + "}" }}
            {%- endfor %}
        {%- endif %}
        {{- "<|eom_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>" + message["role"] + "<|end_header_id|>\\n\\n" + message["content"] + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""
