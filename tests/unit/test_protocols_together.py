"""Nodes that train together: the bridge is a learner's own training, taken apart, and every family that trains by gradients crosses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from studbook.data import open_source
from studbook.errors import ConfigError, FitError
from studbook.learners import CausalLM, Diffusion, Gan, Gpt, Vae
from studbook.neural.options import Decoding, Training
from studbook.protocols import Choice, Federated, Gossip, Independent, Local, Optimiser, Selection, Synchronised, ring
from studbook.protocols.lessons import LearnerLoss, LearnerSteps, ServerSteps, read_weights
from studbook.protocols.together import FAMILIES, Teachable, TrainedTogether, train_together
from studbook.recursion import Network
from studbook.rng import stream
from studbook.study.catalog import LEARNERS

torch = pytest.importorskip("torch")

SHORT = Training(epochs=2, batch=16, rate=2e-3)
PROTOCOLS = {
    "apart": Independent(),
    "synchronised": Synchronised(),
    "local": Local(2),
    "gossip": Gossip(ring(3)),
    "federated": Federated(2),
}


@pytest.fixture(scope="module")
def digits():
    return open_source("digits").load().records.take(np.arange(96))


@pytest.fixture(scope="module")
def prose():
    return open_source("python-docs", vocabulary=100, block=16).load().records.take(np.arange(48))


def learners():
    text = {"layers": 1, "width": 16, "heads": 2}
    return {
        "vae": Vae(latents=4, hidden=16, training=SHORT),
        "conv": Vae(latents=4, network="conv", width=4, likelihood="gaussian", training=SHORT),
        "gan": Gan(latents=4, width=4, training=replace(SHORT, weight_decay=0.0)),
        "conditional": Gan(latents=4, width=4, conditional=True, classes=tuple(range(10)), training=SHORT),
        "diffusion": Diffusion(width=16, depth=1, sampling_steps=4, training=SHORT),
        "unet": Diffusion(network="unet", width=16, depth=1, sampling_steps=4, training=SHORT),
        "gpt": Gpt(**text, training=SHORT),
        "prompted": Gpt(**text, training=SHORT, decoding=Decoding(prompt=4, max_new=8)),
        "causal_lm": CausalLM("llama-tiny", **text, training=SHORT),
    }


@pytest.fixture(params=sorted(learners()))
def subject(request, digits, prose):
    learner = learners()[request.param]
    data = prose if isinstance(learner, Gpt | CausalLM) else digits
    return (learner.condition_on(data) if hasattr(learner, "condition_on") else learner), data


def parts(data, n=3):
    return [data.take(np.arange(node, len(data), n)) for node in range(n)]


def flat(model):
    modules = [getattr(getattr(model, name, None), "module", getattr(model, name, None)) for name in ("network", "generator", "critic")]
    return np.concatenate([value.detach().numpy().ravel() for module in modules if module is not None for value in module.parameters()])


def apart(models):
    weights = np.stack([flat(model) for model in models])
    return float(np.square(weights - weights[0]).sum())


def test_contact_brings_every_family_together(subject):
    learner, data = subject
    found = {name: train_together(learner, parts(data), protocol, rng=stream(3)) for name, protocol in PROTOCOLS.items()}
    spread = {name: apart(models) for name, models in found.items()}
    assert spread["synchronised"] == spread["federated"] == 0.0
    assert 0.0 < spread["gossip"] < spread["apart"]
    assert spread["local"] < spread["apart"]
    assert all(np.isfinite(model.fit_report.loss) for models in found.values() for model in models)
    sample = found["gossip"][0].sample(5, rng=stream(4))
    assert len(sample) == 5 and np.isfinite(sample.values).all()


@pytest.mark.parametrize("protocol", [Gossip(ring(3)), Federated(2, server=Optimiser("adam", 0.01, epsilon=1e-3))])
def test_the_same_again_to_the_bit(subject, protocol):
    learner, data = subject
    one, other = (train_together(learner, parts(data), protocol, rng=stream(3)) for _ in range(2))
    assert all((flat(a) == flat(b)).all() for a, b in zip(one, other, strict=True))
    assert one[1].fit_report == other[1].fit_report


def test_nodes_begin_with_the_mean_of_the_models_before(subject):
    learner, data = subject
    before = train_together(learner, parts(data), Independent(), rng=stream(3))
    still = replace(learner.learner if hasattr(learner, "learner") else learner, training=replace(SHORT, rate=1e-30, weight_decay=0.0))
    after = train_together(still, parts(data), Independent(), starts=before, rng=stream(5))
    np.testing.assert_allclose(flat(after[0]), np.mean([flat(model) for model in before], axis=0), rtol=1e-4, atol=1e-6)


WHOLE = Training(epochs=12, batch=64, rate=3e-3, warmup=0.2, clip=0.5)


@pytest.mark.parametrize("options", [WHOLE, replace(WHOLE, optimizer="adam"), replace(WHOLE, optimizer="sgd", schedule="linear", rate=0.1)])
@pytest.mark.parametrize("family", ["gpt", "causal_lm"])
def test_one_node_is_the_learners_own_training(family, options, prose):
    """On whole batches, without noise in the loss, nothing but the order of sums is left to differ."""
    learner = replace(learners()[family], training=options)
    alone = learner.fit(prose, rng=stream(3))
    (bridged,) = train_together(learner, [prose], Independent(), rng=stream(3))
    first = learner.lesson(prose, rng=stream(3))
    moved = np.linalg.norm(flat(alone) - np.concatenate([weight.detach().numpy().ravel() for weight in first.network.parameters()]))
    assert moved > 0.1
    assert np.linalg.norm(flat(bridged) - flat(alone)) < 1e-4 * moved
    assert bridged.fit_report.loss == pytest.approx(alone.fit_report.loss, rel=1e-5)
    assert (bridged.fit_report.steps, bridged.fit_report.epochs) == (alone.fit_report.steps, alone.fit_report.epochs)


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 3e-3), ("sgd", 0.1)])
def test_a_round_is_passes_of_the_learners_own_with_its_rate_at_that_share_of_the_rounds(optimizer, rate, prose):
    """On whole batches, against PyTorch: nothing but the order of sums is left to differ."""
    from studbook.neural.training import Stepper

    options = replace(WHOLE, epochs=6, optimizer=optimizer, rate=rate, schedule="linear", warmup=0.0)
    learner = replace(learners()["gpt"], training=options)
    (bridged,) = train_together(learner, [prose], Federated(clients=1, epochs=2), rng=stream(3))
    lesson = learner.lesson(prose, rng=stream(3))
    for number in range(3):
        stepper = Stepper(lesson.network, replace(options, rate=options.rate * (1 - number / 3), schedule="constant"), 2)
        losses = []
        for _ in range(2):
            loss = lesson.loss(torch.arange(lesson.n))
            losses.append(float(loss.detach()))
            stepper.step(loss)
    expected = np.concatenate([weight.detach().numpy().ravel() for weight in lesson.network.parameters()])
    begun = np.concatenate([w.detach().numpy().ravel() for w in learner.lesson(prose, rng=stream(3)).network.parameters()])
    moved = np.linalg.norm(expected - begun)
    assert moved > 0.01
    assert np.linalg.norm(flat(bridged) - expected) < 1e-3 * moved
    assert bridged.fit_report.steps == 3
    assert bridged.fit_report.loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_server_takes_the_mean_of_the_clients(prose):
    """Of all clients, one pass each, in one round: the mean of models that each begin alike and train alone."""
    learner = replace(learners()["gpt"], training=replace(WHOLE, epochs=1, schedule="constant", warmup=0.0))
    several = train_together(learner, parts(prose), Federated(clients=3), rng=stream(3))
    alone = train_together(learner, parts(prose), Independent(), rng=stream(3))
    np.testing.assert_allclose(flat(several[2]), np.mean([flat(model) for model in alone], axis=0), rtol=1e-4, atol=1e-6)


def test_there_are_as_many_rounds_as_give_every_node_its_passes(prose):
    learner = learners()["gpt"]  # two passes
    for protocol, rounds in ((Federated(3), 2), (Federated(2), 3), (Federated(1), 6), (Federated(2, epochs=2), 2)):
        models = train_together(learner, parts(prose), protocol, rng=stream(3))
        assert [model.fit_report.steps for model in models] == [rounds] * 3


def test_a_server_leaves_averages_to_the_clients():
    one = np.ones(1, np.float32)
    parameters, update = {"weight.a": one, "average.a": one}, {"weight.a": one, "average.a": one / 4}
    steps = ServerSteps(Optimiser("adam", 0.5))
    after, _ = steps.step(parameters, update, steps.begin(parameters), 0)
    assert after["weight.a"].tolist() == pytest.approx([0.5])
    assert after["average.a"].tolist() == [0.75]


def test_averages_count_the_steps_of_the_rounds_before(digits):
    learner = learners()["diffusion"]
    lesson = learner.lesson(digits, rng=stream(6))
    first = read_weights(lesson)
    moved = {name: value + 1 if name.startswith("weight.") else value for name, value in first.items()}
    none = {name: np.zeros_like(value) for name, value in first.items()}
    still = replace(SHORT, rate=1e-30, weight_decay=0.0)
    whole, client = LearnerSteps(lesson, still, 100), LearnerSteps(lesson, still, 5, steps_a_round=10).in_round(2)
    state = whole.begin(first)
    one, other = whole.step(moved, none, state, 23)[0], client.step(moved, none, state, 3)[0]
    assert all((one[name] == other[name]).all() for name in first)
    assert any((one[name] != first[name]).any() for name in first if name.startswith("average."))


def test_what_federated_training_refuses(prose):
    learner = learners()["gpt"]
    with pytest.raises(ConfigError, match="3 nodes"):
        train_together(learner, parts(prose), Federated(4), rng=stream(3))
    with pytest.raises(ConfigError, match="the objective learner can't be sliced"):
        train_together(learner, parts(prose), Federated(2, selection=Selection({"words": Choice(2)})), rng=stream(3))
    with pytest.raises(ConfigError, match="a round has 3 passes, the whole training 2"):
        TrainedTogether(Network("federated", 3, clients=2, epochs=3)).check(learner)
    wild = replace(learner, training=replace(SHORT, rate=1e38, clip=0.0))
    with pytest.raises(FitError, match="its update isn't finite"):
        train_together(wild, parts(prose), Federated(2), rng=stream(3))


def test_a_network_says_which_server():
    protocol = TrainedTogether(Network("federated", 4, clients=2, epochs=3, server="adam", server_rate=0.02)).protocol()
    assert protocol == Federated(2, 3, Optimiser("adam", 0.02, epsilon=1e-3))
    plain = TrainedTogether(Network("federated", 4, clients=4)).protocol()
    assert plain == Federated(4, 1, Optimiser("sgd", 1.0, epsilon=1e-3))


def test_nodes_with_equal_data_are_one_node(prose):
    learner = replace(learners()["gpt"], training=WHOLE)
    (alone,) = train_together(learner, [prose], Independent(), rng=stream(3))
    for protocol in (Synchronised(), Gossip(ring(2)), Local(3)):
        several = train_together(learner, [prose, prose], protocol, rng=stream(3))
        assert np.linalg.norm(flat(several[1]) - flat(alone)) < 1e-5 * np.linalg.norm(flat(alone))


def test_steps_are_to_the_bit_those_of_fit(subject):
    """Gradient and step, taken apart, against the loss and the stepper that ``fit`` uses."""
    from studbook.neural.device import session
    from studbook.neural.training import Average, Stepper

    learner, data = subject
    options = learner.training
    bridge, plain = (learner.lesson(data, rng=stream(6)) for _ in range(2))
    loss, steps = LearnerLoss(bridge, options, read_weights(bridge), {}), LearnerSteps(bridge, options, 5)
    parameters = loss.initial(rng=stream(0))
    state = steps.begin(parameters)
    stepper = Stepper(plain.network.train(), options, 5, betas=plain.betas, players=plain.players)
    average = Average(plain.network, plain.decay)
    for number in range(5):
        rows = np.arange(16) + number
        with session(options, rng=stream(7, number), doing="a test", batch=16, lower="nothing"):
            stepper.step(plain.loss(torch.from_numpy(rows)))
        average.update(plain.network)
        parameters, state = steps.step(parameters, loss.gradient(parameters, rows, rng=stream(7, number)).parameters, state, number)
    for name, weight in plain.network.named_parameters():
        assert (parameters[f"weight.{name}"] == weight.detach().numpy()).all(), name
    for name, weight in average.module.named_parameters():
        if f"average.{name}" in parameters:
            np.testing.assert_allclose(parameters[f"average.{name}"], weight.detach().numpy(), rtol=1e-5, atol=1e-7)
    assert any(name.startswith("average.") for name in parameters) == isinstance(learner, Diffusion | Gan)


def test_the_players_of_a_gan_are_clipped_each_by_its_own_norm_as_fit_does(digits):
    learner = replace(learners()["gan"], training=replace(SHORT, clip=1e-3))
    lesson = learner.lesson(digits, rng=stream(6))
    loss, steps = LearnerLoss(lesson, learner.training, read_weights(lesson), {}), LearnerSteps(lesson, learner.training, 5)
    parameters = loss.initial(rng=stream(0))
    gradient = loss.gradient(parameters, np.arange(16), rng=stream(7)).parameters
    _, moved = steps.step(parameters, gradient, steps.begin(parameters), 0)
    for player in ("generator", "critic"):
        norms = [
            np.sqrt(sum(float(np.square(value).sum()) for name, value in values.items() if name.startswith(f"weight.{player}.")))
            for values in (gradient, moved["exp_avg"])
        ]
        assert norms[0] > 1e-2
        assert norms[1] == pytest.approx(1e-3 * (1.0 - lesson.betas[0]), rel=1e-3)


def test_other_records_and_other_weights_are_another_objective(prose):
    one, other = prose.take(np.arange(8)), prose.take(np.arange(8, 16))
    learner = learners()["gpt"]

    def described(data, seed):
        lesson = learner.lesson(data, rng=stream(seed))
        return LearnerLoss(lesson, learner.training, read_weights(lesson), {}).describe()

    assert described(one, 0) == described(one, 0)
    assert described(one, 1)["start"] != described(one, 0)["start"]
    assert described(other, 0)["rows"] == 8


def test_every_family_with_gradients_is_named_and_the_others_are_told():
    assert {kind for kind, cls in LEARNERS.items() if hasattr(cls, "lesson")} == set(FAMILIES)
    together = TrainedTogether(Network("gossip", 3))
    for kind, cls in LEARNERS.items():
        if kind in FAMILIES:
            assert isinstance(cls(), Teachable)
            together.check(cls())
        else:
            with pytest.raises(ConfigError, match="its nodes train by gradients, which") as told:
                together.check(object.__new__(cls))
            assert "vae, gan, diffusion, gpt or causal_lm" in told.value.hint


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (Vae(training=Training(validation=0.1)), "without a validation part"),
        (Gpt(training=Training(device="cuda")), "run on the CPU"),
        (Gan(critic_steps=2), "step both players at once"),
    ],
)
def test_settings_that_do_not_fit_are_refused(learner, message):
    with pytest.raises(ConfigError, match=message):
        TrainedTogether(Network("synchronised", 2)).check(learner)
