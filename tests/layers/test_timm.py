"""One small net of each module of timm, with random weights: every layer, and where the last features are.

timm and torchvision are optional (``pip install --no-deps timm torchvision``); without them the tests are skipped.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stackfeat as sf
from stackfeat.errors import TapError
from tests.layers.hand_written import Count, check_every_layer, count_of
from tests.torchvision_operators import declare_missing_operators

pytestmark = pytest.mark.slow

NETS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", 32, {"img_size": 32, "depth": 2}),
    "byoanet": ("lambda_resnet26t", 32, {}),
    "byobnet": ("test_byobnet", 32, {"img_size": 32}),
    "cait": ("cait_xxs24_224", 32, {"img_size": 32}),
    "coat": ("coat_tiny", 32, {"img_size": 32}),
    "convit": ("convit_tiny", 32, {"img_size": 32}),
    "convmixer": ("convmixer_768_32", 32, {}),
    "convnext": ("test_convnext", 32, {}),
    "cpubone": ("cpubone_nano", 32, {}),
    "crossvit": ("crossvit_tiny_240", 32, {}),
    "csatv2": ("csatv2", 64, {}),
    "cspnet": ("cs3darknet_focus_s", 32, {}),
    "cspnext": ("cspnext_tiny", 32, {}),
    "davit": ("davit_tiny", 32, {}),
    "deepseek_vit": (
        "deepseek_vit_412m",
        84,
        {"depth": 2, "embed_dim": 192, "num_heads": 3, "img_size": 546},
    ),
    "deit": ("deit_tiny_patch16_224", 32, {"img_size": 32}),
    "densenet": ("tv_densenet121", 32, {}),
    "dla": ("dla46x_c", 32, {}),
    "dpn": ("dpn48b", 32, {}),
    "edgenext": ("edgenext_xx_small", 32, {}),
    "efficientformer": ("efficientformer_l1", 224, {"img_size": 224}),
    "efficientformer_v2": ("efficientformerv2_s0", 32, {"img_size": 32}),
    "efficientnet": ("test_efficientnet", 32, {}),
    "efficientvim": ("efficientvim_m1", 32, {}),
    "efficientvit_mit": ("efficientvit_b0", 32, {}),
    "efficientvit_msra": ("efficientvit_m0", 32, {"img_size": 32}),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 32, {"img_size": 32}),
    "fasternet": ("fasternet_t0", 32, {}),
    "fastvit": ("fastvit_t8", 32, {}),
    "focalnet": ("focalnet_tiny_srf", 32, {}),
    "gcvit": ("gcvit_xxtiny", 32, {"img_size": 32}),
    "gemma4_vit": ("gemma4_vit_167m", 32, {"img_size": 32, "depth": 2, "embed_dim": 192, "num_heads": 3}),
    "ghostnet": ("ghostnet_050", 32, {}),
    "hardcorenas": ("hardcorenas_b", 32, {}),
    "hgnet": ("hgnetv2_b0", 32, {}),
    "hiera": ("hiera_tiny_224", 32, {"img_size": 32}),
    "hieradet_sam2": ("sam2_hiera_tiny", 32, {}),
    "hrnet": ("hrnet_w18_small", 32, {}),
    "iformer": ("iformer_t", 32, {}),
    "inception_next": ("inception_next_atto", 32, {}),
    "inception_resnet_v2": ("ens_adv_inception_resnet_v2", 96, {}),
    "inception_v3": ("adv_inception_v3", 96, {}),
    "inception_v4": ("inception_v4", 96, {}),
    "lcnetv2": ("lcnetv2_small", 32, {}),
    "levit": ("levit_128s", 32, {"img_size": 32}),
    "lowformer": ("lowformer_b0", 32, {}),
    "mambaout": ("test_mambaout", 32, {}),
    "maxxvit": ("test_coatnet", 32, {"img_size": 32}),
    "metaformer": ("poolformerv2_s12", 32, {}),
    "mlp_mixer": ("gmlp_ti16_224", 32, {"img_size": 32}),
    "mobilenetv3": ("mobilenetv3_small_050", 32, {}),
    "mobilenetv5": ("mobilenetv5_base", 32, {}),
    "mobilevit": ("mobilevit_xxs", 32, {"img_size": 32}),
    "mvitv2": ("mvitv2_tiny", 32, {"img_size": 32}),
    "naflexvit": (
        "naflexvit_base_patch16_parfac_gap",
        32,
        {"img_size": 32, "depth": 2, "embed_dim": 192, "num_heads": 3},
    ),
    "nasnet": ("nasnetalarge", 32, {}),
    "nest": ("jx_nest_tiny", 32, {"img_size": 32}),
    "nextvit": ("nextvit_small", 32, {}),
    "nfnet": ("test_nfnet", 32, {}),
    "pit": ("pit_ti_224", 32, {"img_size": 32}),
    "pnasnet": ("pnasnet5large", 32, {}),
    "pvt_v2": ("pvt_v2_b0", 32, {}),
    "qwen3_vit": ("qwen3_vit_88m", 32, {"img_size": 32, "depth": 2}),
    "rdnet": ("rdnet_tiny", 32, {}),
    "regnet": ("regnetx_002", 32, {}),
    "repghost": ("repghostnet_050", 32, {}),
    "repvit": ("repvit_m1", 32, {"img_size": 32}),
    "res2net": ("res2next50", 32, {}),
    "resnest": ("resnest14d", 32, {}),
    "resnet": ("test_resnet", 32, {}),
    "resnetv2": ("resnetv2_18", 32, {}),
    "rexnet": ("rexnet_100", 32, {}),
    "selecsls": ("selecsls42", 32, {}),
    "senet": ("legacy_seresnet18", 32, {}),
    "sequencer": ("sequencer2d_s", 32, {"img_size": 32}),
    "shvit": ("shvit_s1", 32, {}),
    "sknet": ("skresnet18", 32, {}),
    "starnet": ("starnet_s050", 32, {}),
    "swiftformer": ("swiftformer_xs", 32, {"img_size": 32}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 32, {"img_size": 32}),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 32, {"img_size": 32}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 32, {"img_size": 32}),
    "tiny_vit": ("tiny_vit_5m_224", 32, {}),
    "tnt": ("tnt_s_legacy_patch16_224", 32, {"img_size": 32}),
    "tresnet": ("tresnet_m_448", 32, {}),
    "twins": ("twins_svt_small", 32, {"img_size": 32}),
    "vgg": ("vgg11", 32, {}),
    "visformer": ("visformer_tiny", 32, {"img_size": 32}),
    "vision_transformer": ("test_vit", 32, {"img_size": 32}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 32, {"img_size": 32}),
    "vision_transformer_relpos": ("test_vit_relpos", 32, {"img_size": 32}),
    "vision_transformer_sam": ("samvit_base_patch16_224", 32, {"img_size": 32}),
    "vitamin": ("vitamin_small_224", 32, {"img_size": 32}),
    "volo": ("volo_d1_224", 32, {"img_size": 32}),
    "vovnet": ("ese_vovnet19b_slim_dw", 32, {}),
    "xception": ("xception", 32, {}),
    "xception_aligned": ("xception41p", 32, {}),
    "xcit": ("xcit_nano_12_p8_224_dist", 32, {"img_size": 32}),
}
"""By module: a net, the size of its images, and arguments that make it smaller."""

NO_HEAD = {"deepseek_vit", "eva", "gemma4_vit", "hieradet_sam2", "qwen3_vit"}
"""Nets that have no head by default."""

SEVERAL = {
    "crossvit": "head.0, head.1",
    "efficientvim": "heads.0, heads.1, heads.2, heads.3",
    "volo": "head, aux_head",
}
"""Nets whose heads read different values: of each branch, of each stage, of the first token and of all others."""


@pytest.fixture(scope="module")
def timm() -> Any:
    pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
    return pytest.importorskip("timm", reason="timm is not installed")


@pytest.fixture(scope="module", autouse=True)
def operators() -> None:
    declare_missing_operators()


def build(timm: Any, module: str, **arguments: Any) -> tuple[nn.Module, Tensor]:
    """Return a net in eval mode whose batch norms do something, and two images."""
    name, size, more = NETS[module]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net: nn.Module = timm.create_model(name, **more, **arguments).eval()
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net, torch.randn(3, 3, size, size)


def test_the_table_has_every_module_of_timm(timm: Any) -> None:
    known = {name.rpartition(".")[2] for name in timm.models._registry._module_to_models}
    assert len(known & NETS.keys()) >= 80
    if timm.__version__ == "1.0.31":
        assert known == NETS.keys()


@pytest.mark.parametrize("module", NETS)
def test_every_layer_is_equal_to_a_hand_written_hook(timm: Any, module: str, record_property: Count) -> None:
    net, images = build(timm, module)
    found = check_every_layer(net, {"x": images})
    count_of("timm", record_property, nets=1, **found)


@pytest.mark.parametrize("module", NETS)
def test_the_last_features_are_the_ones_before_the_logits(
    timm: Any, module: str, record_property: Count
) -> None:
    net, images = build(timm, module)
    if module in NO_HEAD:
        with pytest.raises(TapError, match=r"this net has no head.*tap ':output'"):
            sf.find_penultimate(net, images)
        count_of("timm", record_property, **{"no head": 1})
    elif module in SEVERAL:
        with pytest.raises(TapError, match=f"got {SEVERAL[module]} of the weighted layers"):
            sf.find_penultimate(net, images)
        count_of("timm", record_property, **{"several heads": 1})
    else:
        tap = sf.find_penultimate(net, images)
        with torch.no_grad(), sf.tapped(net, [tap]) as caught:
            net(images)
        with torch.no_grad():
            before = net.forward_head(net.forward_features(images), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(caught[tap].flatten(1), before.flatten(1))
        count_of("timm", record_property, **{"equal to pre-logits": 1})


@pytest.mark.parametrize("module", NETS)
def test_without_classes_there_is_no_head(timm: Any, module: str, record_property: Count) -> None:
    net, images = build(timm, module, num_classes=0)
    with pytest.raises(TapError, match=r"this net has no head.*tap ':output'"):
        sf.find_penultimate(net, images)
    count_of("timm", record_property, **{"no head without classes": 1})
