"""The demo's providers and models, with prices, speed and popularity."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

SEED = 20260104

# One paragraph a provider: its name and slug, then its models, the most popular first, each with the
# price in dollars of a million input and of a million output tokens.
_MAKERS = """
OpenAI openai
GPT-4o mini 0.15 0.6; GPT-4o 2.5 10; GPT-4.1 mini 0.4 1.6; GPT-5 mini 0.25 2; GPT-4.1 2 8; GPT-5 1.25 10
o4-mini 1.1 4.4; GPT-4.1 nano 0.1 0.4; o3 2 8; GPT-5 nano 0.05 0.4; o3-mini 1.1 4.4; GPT-3.5 Turbo 0.5 1.5
GPT-4 Turbo 10 30; o1 15 60; GPT-4 30 60

Anthropic anthropic
Claude 3.5 Sonnet 3 15; Claude Sonnet 4 3 15; Claude 3.5 Haiku 0.8 4; Claude 3.7 Sonnet 3 15
Claude Sonnet 4.5 3 15; Claude Haiku 4.5 1 5; Claude Opus 4.1 15 75; Claude 3 Haiku 0.25 1.25
Claude 3 Opus 15 75

Google google
Gemini 2.5 Flash 0.3 2.5; Gemini 2.0 Flash 0.1 0.4; Gemini 2.5 Pro 1.25 10; Gemini 2.5 Flash-Lite 0.1 0.4
Gemini 1.5 Flash 0.075 0.3; Gemini 1.5 Pro 1.25 5; Gemini 2.0 Flash-Lite 0.075 0.3
Gemini 1.5 Flash-8B 0.04 0.15

Mistral AI mistralai
Mistral Small 0.2 0.6; Mistral Large 2 6; Mistral Medium 3 0.4 2; Codestral 0.3 0.9; Ministral 8B 0.1 0.1
Pixtral Large 2 6; Ministral 3B 0.04 0.04; Magistral Medium 2 5; Devstral Small 0.1 0.3

DeepSeek deepseek
DeepSeek Chat 0.27 1.1; DeepSeek Reasoner 0.55 2.19; DeepSeek Coder V2 0.14 0.28

xAI x-ai
Grok 4 3 15; Grok 3 Mini 0.3 0.5; Grok 4 Fast 0.2 0.5; Grok Code Fast 1 0.2 1.5; Grok 3 3 15; Grok 2 2 10

Cohere cohere
Command R 0.15 0.6; Command A 2.5 10; Command R Plus 2.5 10; Command R7B 0.04 0.15; Aya Expanse 32B 0.5 1.5

Alibaba Cloud qwen
Qwen Plus 0.4 1.2; Qwen Turbo 0.05 0.2; Qwen Max 1.6 6.4; Qwen VL Max 0.8 3.2; QwQ Plus 0.8 2.4

Amazon amazon
Nova Lite 0.06 0.24; Nova Pro 0.8 3.2; Nova Micro 0.035 0.14; Nova Premier 2.5 12.5

Perplexity perplexity
Sonar 1 1; Sonar Pro 3 15; Sonar Reasoning 1 5; Sonar Reasoning Pro 2 8; Sonar Deep Research 2 8

Moonshot AI moonshotai
Kimi K2 0.6 2.5; Kimi Latest 2 5; Moonshot v1 32k 1 3

MiniMax minimax
MiniMax M1 0.4 2.2; MiniMax Text 01 0.2 1.1

Z.AI z-ai
GLM 4.5 0.6 2.2; GLM 4.5 Air 0.2 1.1; GLM 4.6 0.6 2.2

AI21 Labs ai21
Jamba Mini 0.2 0.4; Jamba Large 2 8

Writer writer
Palmyra X5 0.6 6; Palmyra X4 2.5 10

Inflection AI inflection
Inflection 3 Pi 2.5 10; Inflection 3 Productivity 2.5 10
"""

# The same for models with open weights, by the name under which their maker publishes them.
_OPEN = """
Meta meta-llama
Llama 3.3 70B Instruct 0.59 0.79; Llama 3.1 8B Instruct 0.05 0.08; Llama 4 Maverick 0.2 0.6
Llama 4 Scout 0.11 0.34; Llama 3.1 70B Instruct 0.6 0.6; Llama 3.1 405B Instruct 2.5 2.5
Llama 3.2 3B Instruct 0.06 0.06; Llama 3.2 90B Vision Instruct 0.9 0.9

DeepSeek deepseek
DeepSeek R1 0.8 2.4; DeepSeek V3 0324 0.3 0.9; DeepSeek V3.1 0.3 1; DeepSeek R1 Distill Llama 70B 0.6 0.9

Qwen qwen
Qwen3 235B A22B 0.2 0.6; Qwen2.5 72B Instruct 0.4 0.4; Qwen3 32B 0.1 0.3; Qwen2.5 Coder 32B Instruct 0.2 0.2
Qwen3 Coder 480B A35B 0.4 1.6; Qwen3 30B A3B 0.1 0.3

OpenAI openai
gpt-oss-120b 0.15 0.6; gpt-oss-20b 0.08 0.3

Mistral AI mistralai
Mixtral 8x7B Instruct 0.24 0.24; Mistral Nemo 0.1 0.1; Mistral 7B Instruct 0.06 0.06

Google google
Gemma 3 27B IT 0.1 0.2; Gemma 2 9B IT 0.06 0.06

Moonshot AI moonshotai
Kimi K2 Instruct 0.6 2.4

Microsoft microsoft
Phi 4 0.07 0.14

Nvidia nvidia
Llama 3.1 Nemotron 70B Instruct 0.35 0.4
"""

# Providers that host models of other makers: slug, name, number of open models, makers whose own models they
# also host, tokens per second.
_HOSTS = [
    ("openrouter", "OpenRouter", 12, ("openai", "anthropic", "google", "x-ai"), 60),
    ("groq", "Groq", 9, (), 290),
    ("together", "Together AI", 18, (), 85),
    ("fireworks", "Fireworks AI", 14, (), 110),
    ("deepinfra", "DeepInfra", 16, (), 55),
    ("azure", "Azure OpenAI", 0, ("openai",), 75),
    ("bedrock", "Amazon Bedrock", 5, ("anthropic",), 60),
    ("vertex", "Google Vertex AI", 2, ("anthropic",), 70),
    ("cerebras", "Cerebras", 6, (), 900),
    ("sambanova", "SambaNova", 7, (), 220),
    ("nebius", "Nebius AI Studio", 10, (), 60),
    ("novita", "Novita AI", 10, (), 50),
    ("hyperbolic", "Hyperbolic", 8, (), 45),
    ("cloudflare", "Cloudflare Workers AI", 6, (), 40),
    ("replicate", "Replicate", 5, (), 35),
]

# These providers have no requests, nor has this share of the other models, the least popular ones.
_UNUSED = ("inflection", "replicate")
_UNUSED_SHARE = 0.08


Prices: TypeAlias = tuple[float, float]


class Provider(NamedTuple):
    name: str
    slug: str
    failure_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    provider: Provider
    model_name: str
    provider_model_id: str
    model_id: str
    prices: Prices
    """Dollars per million input tokens and per million output tokens."""
    tokens_per_second: float
    popularity: float
    """Weight among all models; 0: no requests."""


def _models() -> list[Model]:
    """Return the models, the most popular first."""
    rng = random.Random(SEED)  # noqa: S311
    makers = {slug: (name, own) for name, slug, own in _parse(_MAKERS)}
    openly = [(maker, *model) for _, maker, own in _parse(_OPEN) for model in own]
    found: list[Model] = []

    def add(
        provider: Provider, handicap: float, speed: float, offered: list[tuple[str, str, Prices]]
    ) -> None:
        for place, (maker, name, prices) in enumerate(offered, start=1):
            short = name.lower().replace(" ", "-")
            identifier = short if maker == provider.slug else f"{provider.slug}/{short}"
            rank = math.inf if provider.slug in _UNUSED else place * handicap * rng.uniform(0.6, 1.6)
            tokens_per_second = speed * rng.uniform(0.7, 1.3)
            found.append(
                Model(provider, name, f"{maker}/{short}", identifier, prices, tokens_per_second, rank)
            )

    for number, (slug, (name, own)) in enumerate(makers.items()):
        provider = Provider(name, slug, rng.uniform(0.012, 0.045))
        add(provider, 1 + 0.6 * number, 75, [(slug, *model) for model in own])
    for number, (slug, name, open_ones, whose, speed) in enumerate(_HOSTS):
        provider = Provider(name, slug, rng.uniform(0.012, 0.045))
        hosted = [openly[index] for index in sorted(rng.sample(range(len(openly)), open_ones))]
        add(
            provider,
            2.5 + 0.5 * number,
            speed,
            [(m, *model) for m in whose for model in makers[m][1]] + hosted,
        )

    found.sort(key=lambda model: model.popularity)
    asked = int((1 - _UNUSED_SHARE) * sum(model.popularity < math.inf for model in found))
    return [
        replace(model, popularity=1 / (place + 1) ** 1.02 if place < asked else 0)
        for place, model in enumerate(found)
    ]


def _parse(text: str) -> Iterator[tuple[str, str, list[tuple[str, Prices]]]]:
    for paragraph in text.strip().split("\n\n"):
        head, *lines = paragraph.splitlines()
        provider, slug = head.rsplit(" ", 1)
        entries = [entry.rsplit(" ", 2) for line in lines for entry in line.split("; ")]
        yield provider, slug, [(name, (float(per_in), float(per_out))) for name, per_in, per_out in entries]


MODELS = _models()
PROVIDERS = list(dict.fromkeys(model.provider for model in MODELS))
