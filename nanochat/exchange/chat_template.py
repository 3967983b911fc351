"""How a conversation is rendered, as a jinja template for Hugging Face's tokenizers.

The same ids as `render_prompt` and `render_conversation` (nanochat/text/conversation.py), with one difference that a
template cannot avoid: their tokenizer takes a special that a user's text spells for the special itself.
"""

CHAT_TEMPLATE = r"""
{%- set turns = messages -%}
{%- set system = '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] + '\n\n' if messages[0]['content'] else '' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{{- '<|bos|>' -}}
{%- for message in turns -%}
{%- set role = message['role'] -%}
{%- if role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('users and assistants take turns, a user begins; only the first message may be of the system') -}}
{%- endif -%}
{{- '<|' + role + '_start|>' -}}
{%- if loop.first -%}{{- system -}}{%- endif -%}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'python' -%}
{{- '<|python_start|>' + part['text'] + '<|python_end|>' -}}
{%- elif part['type'] == 'python_output' -%}
{{- '<|output_start|>' + part['text'] + '<|output_end|>' -}}
{%- else -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|' + role + '_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant_start|>' -}}{%- endif -%}
"""
