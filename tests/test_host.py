"""What this machine is said to be."""

from __future__ import annotations

import platform

from allfocus.runtime import host

CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni

processor\t: 1
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\n"
APPLE = """\
machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 0
hw.optional.AdvSIMD: 1
"""


def test_cpuinfo_of_x86_gives_name_and_features() -> None:
    name, features = host.parse_cpuinfo(CPUINFO)
    assert name == "AMD EPYC (family 25, model 17)"
    assert features == ("avx2", "fma", "avx512f", "avx512_vnni")


def test_cpuinfo_of_arm_gives_features_and_the_platforms_name() -> None:
    name, features = host.parse_cpuinfo(ARM)
    assert name in (platform.processor(), platform.machine())
    assert features == ("asimd", "asimddp", "i8mm")


def test_sysctl_of_macos_is_put_into_the_same_words() -> None:
    assert host.parse_sysctl(APPLE) == ("Apple M2", ("asimd", "asimddp", "bf16"))
    assert host.parse_sysctl("")[1] == ()


def test_this_machine_has_a_name() -> None:
    assert host.describe_cpu()[0]


def test_packages_are_found_by_their_metadata() -> None:
    found = host.installed_packages()
    assert {"allfocus", "numpy"} <= set(found)
    assert set(found) <= set(host.PACKAGES)
