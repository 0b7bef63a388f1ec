"""Starts: what comes into a model, the exact account of what does not, and the pixels expected."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from sklearn.datasets import load_sample_image
from tiny import CLASSES, MODEL, save_tiny, tiny_card, tiny_model
from torch import nn

from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.models import ModelConfig, build
from ray_st.models.backbone import Backbone
from ray_st.models.initialise import InitConfig, initialise, read_start
from ray_st.models.saved import ModelCard, read_model, save_model
from ray_st.selftraining.learning import Learning, read_init
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

BACKBONE = MODEL.backbone  # test_resnet; timm has weights of it, for pixels of -1..1
WITHIN = "backbone.network.model."
# The tapped levels 3 and 4 leave out the last stage and the classifier.
PRUNED = ("layer4.", "fc.")
HEAD = ("fpn.", "classes.", "boxes.")


def network(name=BACKBONE, seed=7):
    torch.manual_seed(seed)
    made = timm.create_model(name)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # else they are all zeros and ones
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made


def file_of(tmp_path, tensors, name="w.pth"):
    torch.save(tensors, tmp_path / name)
    return str(tmp_path / name)


def config(weights, **changes):
    return InitConfig(**{"start": "imagenet", "weights": weights, **changes})


HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def told(weights, **changes):
    """A start from a file that says nothing of its pixels."""
    return config(weights, **HALF, **changes)


def refused(model, init, network=MODEL):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        initialise(model, network, init)
    line = str(caught.value)
    assert "\n" not in line
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    return line


def own_names(tensors):
    """The tensors of a timm network that a model with levels 3 and 4 has."""
    return {name: value for name, value in tensors.items() if not name.startswith(PRUNED)}


def counted(names):
    """All but BatchNorm's counters, which no account counts."""
    return [name for name in names if not name.endswith("num_batches_tracked")]


def test_random_is_what_was_built():
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert initialise(model, MODEL, InitConfig()) is None
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("start", ["imagenet", "imagenet++", "simclr"])
def test_the_backbone_comes_whole_and_the_rest_stays(tmp_path, start):
    tensors = network().state_dict()
    model = tiny_model()
    head = {n: v.clone() for n, v in model.state_dict().items() if n.startswith(HEAD)}
    path = file_of(tmp_path, {"state_dict": tensors})
    loaded = initialise(model, MODEL, told(path, start=start))
    after = model.state_dict()
    own = own_names(tensors)
    for name, value in own.items():
        assert after[WITHIN + name].equal(value), name
    assert [n for n in after if n.startswith(WITHIN)] == [WITHIN + name for name in own]
    for name, value in head.items():
        assert after[name].equal(value), name
    assert (loaded.start, loaded.source) == (start, path)
    num_own, num_all = len(counted(own)), len(counted(tensors))
    assert num_own < len(own)
    assert (loaded.tensors, loaded.left_over) == (num_own, num_all - num_own)
    assert loaded.misfits == ""
    assert str(loaded) == f"{start} from {path}, {num_own} tensors"


def test_features_are_those_of_timms_own_network(tmp_path):
    whole = network().eval()
    model = tiny_model().eval()
    initialise(model, MODEL, told(file_of(tmp_path, whole.state_dict())))
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    about = timm.data.resolve_model_data_config(whole)
    assert about["mean"] == (0.5, 0.5, 0.5)
    mean, std = (torch.tensor(about[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = whole.forward_intermediates(
            (pixels / 255 - mean) / std, indices=[2, 3], intermediates_only=True
        )
        maps = model.backbone((pixels.float() - model.mean) / model.std)
    for got, want in zip(maps, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_missing_unexpected_and_reshaped_tensors_are_named(tmp_path):
    tensors = network().state_dict()
    key = next(iter(tensors))
    del tensors[key]
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv1.weight"][:, :, :1]
    tensors["layer9.weight"] = torch.zeros(3)
    tensors["fc.weight"] = torch.zeros(5, 7)  # another classifier is nobody's business
    path = file_of(tmp_path, tensors)
    model = tiny_model()
    line = refused(model, config(path))
    shape = tuple(network().state_dict()["layer1.0.conv1.weight"].shape)
    reshaped = f"layer1.0.conv1.weight {(*shape[:2], 1, shape[3])} for {shape}"
    assert line == (
        f"init.weights: {path} does not fit {BACKBONE}: 1 missing ({key}), 1 of another shape "
        f"({reshaped}), 1 unexpected (layer9.weight); choose the model.backbone that it was made "
        "for, or pass --init.partial to load the rest"
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = initialise(model, MODEL, told(path, partial=True))
    assert (loaded.missing, loaded.unexpected) == ((key,), ("layer9.weight",))
    assert loaded.other_shape == (reshaped,)
    own = own_names(network().state_dict())
    assert loaded.tensors == len(counted(own)) - 2
    for name in (key, "layer1.0.conv1.weight"):
        assert model.state_dict()[WITHIN + name].equal(before[WITHIN + name])
    assert model.state_dict()[WITHIN + "bn1.weight"].equal(own["bn1.weight"])


@pytest.mark.parametrize("more", [0, 1, 13])
def test_twenty_names_are_said_and_the_rest_counted(tmp_path, more):
    odd = [f"layer9.{i}.weight" for i in range(20 + more)]
    tensors = {**network().state_dict(), **{name: torch.zeros(1) for name in odd}}
    line = refused(tiny_model(), config(file_of(tmp_path, tensors)))
    rest = f" and {more} more" if more else ""
    assert f": {20 + more} unexpected ({', '.join(odd[:20])}{rest}); " in line


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    "tensors",
    [
        {"a.b": torch.zeros(2)},
        {"fc.weight": torch.zeros(2)},
        {"mean": torch.zeros(1)},
        {n: v for n, v in network().state_dict().items() if n.endswith("num_batches_tracked")},
    ],
)
def test_a_file_of_which_nothing_fits_is_always_refused(tmp_path, partial, tensors):
    line = refused(tiny_model(), config(file_of(tmp_path, tensors), partial=partial))
    assert f"holds no tensor of {BACKBONE}" in line
    assert "--init.partial" not in line


def test_counters_that_files_from_elsewhere_lack_are_not_missed(tmp_path):
    tensors = {n: v for n, v in network().state_dict().items() if "num_batches" not in n}
    assert initialise(tiny_model(), MODEL, told(file_of(tmp_path, tensors))).misfits == ""


def test_half_precision_files_fill_float_models(tmp_path):
    tensors = {
        n: v.half() if v.is_floating_point() else v for n, v in network().state_dict().items()
    }
    model = tiny_model()
    initialise(model, MODEL, told(file_of(tmp_path, tensors)))
    weight = model.state_dict()[WITHIN + "bn1.running_mean"]
    assert weight.dtype == torch.float32
    assert weight.equal(tensors["bn1.running_mean"].float())


def test_a_start_for_a_model_without_memory_fills_a_real_one(tmp_path):
    init = config(file_of(tmp_path, network().state_dict()), mean=(0, 0.5, 1), std=(1, 0.5, 0.1))
    with torch.device("meta"):
        nowhere = build(MODEL, "detection", len(CLASSES))
    start = read_start(nowhere, MODEL, init)
    sent, here = tiny_model(seed=1), tiny_model(seed=1)
    start.apply(sent)
    assert initialise(here, MODEL, init) == start.loaded
    for (name, got), want in zip(
        sent.state_dict().items(), here.state_dict().values(), strict=True
    ):
        assert got.equal(want), name


# Normalisation


def pixels_of(model):
    return model.mean.flatten().tolist(), model.std.flatten().tolist()


def test_the_normalisation_is_the_users_else_the_files(tmp_path):
    tensors = network().state_dict()
    model = tiny_model()
    assert pixels_of(model)[0] == pytest.approx([123.675, 116.28, 103.53])
    initialise(model, MODEL, told(file_of(tmp_path, tensors)))
    assert pixels_of(model) == ([127.5] * 3, [127.5] * 3)
    about = {"mean": torch.tensor([1.0, 2.0, 3.0]), "std": torch.tensor([4.0, 5.0, 6.0])}
    ours = {WITHIN + name: value for name, value in tensors.items()}
    both = file_of(tmp_path, {**ours, **about}, "ours.pth")
    initialise(model, MODEL, config(both))
    assert pixels_of(model) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    initialise(model, MODEL, config(both, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 0.5)))
    assert pixels_of(model) == ([0.0] * 3, [255.0, 255.0, 127.5])


@pytest.mark.parametrize(
    ("backbone", "pixels", "padding"),
    [
        (
            "mobilenetv2_100",
            "--init.mean 0.485 0.456 0.406 --init.std 0.229 0.224 0.225",
            "tf_mobilenetv2_100",
        ),
        (
            "tf_efficientnet_b0.ap_in1k",
            "--init.mean 0.5 0.5 0.5 --init.std 0.5 0.5 0.5",
            "tf_efficientnet_b0",
        ),
        ("resnet18", "--init.mean 0.485 0.456 0.406 --init.std 0.229 0.224 0.225", None),
    ],
)
def test_a_backbones_name_does_not_tell_the_pixels_of_a_file(tmp_path, backbone, pixels, padding):
    path = file_of(tmp_path, network(backbone).state_dict())
    with torch.device("meta"):
        model = build(ModelConfig(backbone=backbone, levels=(3, 5)), "detection", 2)
    with pytest.raises(UserError) as caught:
        read_start(model, ModelConfig(backbone=backbone, levels=(3, 5)), config(path))
    line = (
        f"init.mean: is missing; {path} does not say which pixels it expects, pass {pixels} if it "
        f"was trained as timm's {backbone} was, or else what its authors used"
    )
    if padding:
        line += f"; files from TensorFlow want its padding too, which model.backbone {padding} has"
    assert str(caught.value) == line


def test_a_backbone_made_for_tensorflows_file_tells_its_pixels(tmp_path):
    path = file_of(tmp_path, network("tf_mobilenetv2_100").state_dict())
    made_for_it = ModelConfig(backbone="tf_mobilenetv2_100", levels=(3, 4))
    model = build(made_for_it, "detection", 2)
    initialise(model, made_for_it, config(path))
    assert pixels_of(model) == ([127.5] * 3, [127.5] * 3)
    initialise(model, made_for_it, config(path, mean=(0,) * 3, std=(1,) * 3))
    assert pixels_of(model) == ([0] * 3, [255] * 3)


def test_a_file_in_the_hubs_cache_expects_the_pixels_of_its_name(tmp_path):
    folder = tmp_path / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0"
    folder.mkdir(parents=True)
    safetensors.torch.save_file(network().state_dict(), folder / "model.safetensors")
    for weights in (folder, folder / "model.safetensors"):
        model = tiny_model()
        initialise(model, MODEL, config(str(weights)))
        assert pixels_of(model) == ([127.5] * 3, [127.5] * 3)
    other = tmp_path / "models--timm--test_resnet.nobodys"  # no weights that timm knows
    (tmp_path / "models--timm--test_resnet.r160_in1k").rename(other)
    line = refused(tiny_model(), config(str(other / "snapshots" / "0")))
    assert line.startswith("init.mean: is missing; ")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"weights": "w.pth"}, "init.weights: must be left out with init.start random"),
        ({"partial": True}, "init.partial: must be left out with init.start random"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "init.mean: must be left out with init.start ra"),
        ({"start": "simclr"}, "init.weights: is missing; start simclr has no default, pass "),
        ({"start": "teacher"}, "init.weights: is missing; start teacher has no default, pass "),
        (
            {"start": "teacher", "weights": "t", "partial": True},
            "init.partial: must be left out with init.start teacher, got True; ",
        ),
        ({"start": "imagenet", "mean": (0.5, 0.5, 0.5)}, "init.std: must be set where "),
        ({"start": "imagenet", "std": (0.5, 0.5, 0.5)}, "init.mean: must be set where "),
        (
            {"start": "imagenet", "mean": (123.675, 116.28, 103.53), "std": (0.2, 0.2, 0.2)},
            "init.mean: must be on 0..1, got (123.675, 116.28, 103.53); divide by 255",
        ),
        (
            {"start": "imagenet", "mean": (0, 0, 0), "std": (1, 1, 0)},
            "init.std: must be above 0, on 0..1, got (1, 1, 0); divide by 255",
        ),
    ],
)
def test_settings_that_contradict_each_other(changes, line):
    with pytest.raises(UserError) as caught:
        InitConfig(**changes)
    assert str(caught.value).startswith(line)


# Folders of ours


STARTS = [("classification", "imagenet"), ("classification", "imagenet++"), ("simclr", "simclr")]


def pretrained(folder, task, *, backbone=BACKBONE, seed=3):
    """A folder as pre-training leaves it: a backbone, its normalisation, some head."""
    model = ModelConfig(backbone=backbone, image_size_px=64, levels=(3, 4))
    torch.manual_seed(seed)
    return saved_body(folder, task, model, Backbone(backbone, (3, 5)))


def saved_body(folder, task, model, backbone):
    body = nn.Module()
    body.backbone, body.predict = backbone, nn.Linear(4, 3)
    body.register_buffer("mean", torch.full((1, 3, 1, 1), 12.0))
    body.register_buffer("std", torch.full((1, 3, 1, 1), 34.0))
    classes = ("a", "b", "c") if task == "classification" else ()
    save_model(folder, body, ModelCard(task=task, classes=classes, model=model, preprocessing={}))
    return str(folder), backbone.state_dict()


@pytest.mark.parametrize(("task", "start"), STARTS)
@pytest.mark.parametrize("file", ["", "/model.safetensors", "/model.json"])
def test_a_pretrained_folder_starts_the_backbone(tmp_path, start, task, file):
    folder, tensors = pretrained(tmp_path / "pre", task)
    model = tiny_model()
    loaded = initialise(model, MODEL, config(folder + file, start=start))
    for name, value in model.backbone.state_dict().items():
        assert value.equal(tensors[name]), name
    assert pixels_of(model) == ([12.0] * 3, [34.0] * 3)
    rest = len(counted(tensors)) - len(counted(model.backbone.state_dict()))
    assert loaded.left_over == rest > 0
    assert loaded.misfits == ""


@pytest.mark.parametrize(
    ("task", "start", "right"),
    [
        ("simclr", "imagenet", "simclr"),
        ("simclr", "imagenet++", "simclr"),
        ("classification", "simclr", "imagenet or imagenet++"),
    ],
)
def test_a_start_is_called_what_the_folder_was_learned_by(tmp_path, task, start, right):
    folder, _ = pretrained(tmp_path / "pre", task)
    line = refused(tiny_model(), config(folder, start=start))
    assert line == (
        f"init.weights: {folder} holds a backbone learned by {task}; pass --init.start {right}"
    )


def test_a_folder_with_another_backbone_or_a_whole_detector(tmp_path):
    folder, _ = pretrained(tmp_path / "pre", "simclr", backbone="resnet10t")
    line = refused(tiny_model(), config(folder, start="simclr"))
    assert line == (
        f"init.weights: {folder} holds the backbone 'resnet10t', the recipe asks for "
        f"'{BACKBONE}'; give both the same model.backbone"
    )
    line = refused(tiny_model(), config(save_tiny(tmp_path / "teacher")))
    assert "holds a model for detection; pass --init.start teacher" in line


def test_only_spinenets_activation_is_the_recipes(tmp_path):
    swish = ModelConfig(**{**vars(SPINENET), "activation": "swish"})
    model = Own(1.0)
    folder, _ = saved_body(tmp_path / "spine", "simclr", swish, Own(2.0).backbone)
    line = refused(model, config(folder, start="simclr", partial=True), SPINENET)
    assert line == (
        f"init.weights: {folder} holds the activation 'swish', the recipe asks for 'relu'; give "
        "both the same model.activation"
    )
    initialise(model, swish, config(folder, start="simclr"))
    assert model.backbone.weight.eq(2).all()
    folder, _ = pretrained(tmp_path / "pre", "simclr")  # which says relu
    timms = ModelConfig(**{**vars(MODEL), "activation": "swish"})
    assert initialise(tiny_model(), timms, config(folder, start="simclr")).misfits == ""


def test_a_teacher_starts_all_of_a_model(tmp_path):
    teacher = tiny_model(seed=5)
    teacher.mean.fill_(3.0)
    save_model(tmp_path, teacher, tiny_card())
    model = tiny_model(seed=6)
    loaded = initialise(model, MODEL, config(str(tmp_path), start="teacher"))
    for name, value in teacher.state_dict().items():
        assert model.state_dict()[name].equal(value), name
    assert loaded.tensors == len(counted(teacher.state_dict()))
    again = read_model(tmp_path, "teacher").load()  # the normalisation travels in the weights
    assert pixels_of(again)[0] == [3.0] * 3
    line = refused(tiny_model(num_classes=3), config(str(tmp_path), start="teacher"))
    assert "2 of another shape (classes.predict.weight" in line


def test_a_folder_without_weights(tmp_path):
    line = refused(tiny_model(), told(str(tmp_path)))
    assert line == (
        f"init.weights: {tmp_path} is a folder without model.safetensors; pass the --out folder of "
        "`ray-st pretrain`, or a file of weights"
    )


def test_folders_with_numbers_that_are_none(tmp_path):
    teacher = tiny_model()
    teacher.classes.predict.bias.data[1] = float("nan")
    save_model(tmp_path / "teacher", teacher, tiny_card())
    said = f"init.weights: {tmp_path}/teacher holds NaN or infinity in classes.predict.bias; "
    init = config(str(tmp_path / "teacher"), start="teacher")
    assert refused(tiny_model(), init).startswith(said)
    with pytest.raises(UserError) as caught:
        read_init(init, learning(), CLASSES, "d.json")
    assert str(caught.value).startswith(said)
    body = Backbone(BACKBONE, (3, 5))
    body.network.model.bn1.running_var.fill_(float("inf"))
    folder, _ = saved_body(tmp_path / "pre", "simclr", MODEL, body)
    line = refused(tiny_model(), config(folder, start="simclr"))
    assert f"{folder} holds NaN or infinity in backbone.network.model.bn1.running_var; " in line


def learning(**changes):
    model = ModelConfig(**{**vars(MODEL), **changes})
    return Learning(task="detection", model=model, augment=AugmentConfig(), train=TrainConfig())


def test_a_teacher_must_agree_with_classes_and_model(tmp_path):
    init = config(save_tiny(tmp_path / "t"), start="teacher")
    loaded = read_init(init, learning(), CLASSES, "d.json").loaded
    assert (loaded.start, loaded.tensors) == ("teacher", len(counted(tiny_model().state_dict())))
    for classes, changes, said in (
        (("cat",), {}, "init.weights: the model's classes are not those of d.json"),
        (
            CLASSES,
            {"channels": 8, "levels": (3, 5)},
            "init.weights: the model differs from the recipe's (model.levels [3, 4], not [3, 5]; "
            "model.channels 16, not 8); give both the same model section",
        ),
    ):
        with pytest.raises(UserError) as caught:
            read_init(init, learning(**changes), classes, "d.json")
        assert str(caught.value).startswith(said)


def test_a_start_is_read_for_the_recipes_model(tmp_path):
    init = told(file_of(tmp_path, network().state_dict()))
    start = read_init(init, learning(), CLASSES, "d.json")
    model = tiny_model()
    start.apply(model)
    assert model.state_dict()[WITHIN + "bn1.weight"].equal(network().state_dict()["bn1.weight"])
    assert read_init(InitConfig(), learning(), CLASSES, "d.json") is None


SPINENET = ModelConfig(backbone="spinenet49s", pyramid="none", channels=16)


class Own(nn.Module):
    """A model whose backbone is not timm's."""

    def __init__(self, fill):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)
        nn.init.constant_(self.backbone.weight, fill)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))


def test_a_backbone_that_is_not_timms(tmp_path):
    tensors = Own(2.0).state_dict()
    bare = {name: tensors[name] for name in tensors if name.startswith("backbone.")}
    path = file_of(tmp_path, bare)
    line = refused(Own(0.0), config(path, start="simclr"), SPINENET)
    assert line.startswith(f"init.mean: is missing; {path} does not say which pixels it expects")
    assert "--init.mean 0.485 0.456 0.406 --init.std 0.229 0.224 0.225 if" in line
    pixels = {"mean": (0.2, 0.4, 0.6), "std": (1.0, 1.0, 1.0)}
    for weights, mean, changes in ((bare, [51, 102, 153], pixels), (tensors, [0, 0, 0], {})):
        model = Own(0.0)
        before = model.head.weight.clone()
        path = file_of(tmp_path, weights)
        loaded = initialise(model, SPINENET, config(path, start="simclr", **changes))
        assert (loaded.tensors, loaded.left_over, loaded.misfits) == (2, 0, "")
        assert model.backbone.weight.eq(2).all()
        assert model.head.weight.equal(before)
        assert pixels_of(model)[0] == pytest.approx(mean)


# Real weights


@pytest.fixture(scope="module")
def mobilenet(shared_data: Path) -> Path:
    path = shared_data / "weights" / "mobilenet_v2_tf2.npz"
    if not path.is_file():
        pytest.skip("needs the ImageNet weights that stand beside the project's own checkout")
    return path


def photo(name):
    """A photograph of scikit-learn's, its middle square, 224 x 224."""
    whole = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None]
    square = torchvision.transforms.functional.center_crop(whole, 427)
    return torchvision.transforms.functional.resize(square, [224, 224], antialias=True)


def torchvisions(path, *, pad_like_tensorflow):
    """torchvision's network with the same tensors: the reference."""
    with np.load(path) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(tensors)
    for module in [*network.modules()] if pad_like_tensorflow else []:
        for name, conv in [*module.named_children()]:
            if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2):
                conv.padding = (0, 0)  # and right and bottom before it: all sides here are even
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv))
    return network.eval()


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "tf_mobilenetv2_100"])
def test_real_weights_load_whole_and_see_what_torchvision_sees(mobilenet, backbone):
    like_tensorflow = backbone.startswith("tf_")
    reference = torchvisions(mobilenet, pad_like_tensorflow=like_tensorflow)
    about = ModelConfig(backbone=backbone, levels=(3, 5), image_size_px=224)
    model = build(about, "detection", 2).eval()
    made = config if like_tensorflow else told  # its name says it
    loaded = initialise(model, about, made(str(mobilenet)))
    assert loaded.misfits == ""
    assert loaded.left_over == 7  # the last convolution, its BatchNorm, the classifier
    assert pixels_of(model) == ([127.5] * 3, [127.5] * 3)
    pixels = photo("china.jpg")
    with torch.no_grad():
        maps = model.backbone((pixels.float() - model.mean) / model.std)
        taps, x = [], pixels / 127.5 - 1
        for i, layer in enumerate(reference.features[:18]):
            x = layer(x)
            taps += [x] if i in (6, 13, 17) else []
        logits = reference.classifier(reference.features[18](maps[-1]).mean(dim=(2, 3)))
    for got, want in zip(maps, taps, strict=True):
        torch.testing.assert_close(got, want, atol=2e-4, rtol=1e-4)
    kinds = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    assert kinds[logits.argmax()] == "palace"


def test_the_names_padding_is_what_differs(mobilenet):
    init = told(str(mobilenet))
    maps = []
    for name in ("mobilenetv2_100", "tf_mobilenetv2_100"):
        about = ModelConfig(backbone=name, levels=(3, 5), image_size_px=224)
        model = build(about, "detection", 2).eval()
        initialise(model, about, init)
        with torch.no_grad():
            maps.append(model.backbone((photo("china.jpg") - model.mean) / model.std)[-1])
    assert maps[0].shape == maps[1].shape
    assert (maps[0] - maps[1]).abs().mean() > 0.1
