"""What pyproject.toml cannot say: the folder `examples/` of the repository is installed as `zsas/examples`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["zsas", "zsas.*"]), "zsas.examples"],
    package_dir={"zsas.examples": "examples"},
    package_data={
        "zsas": ["py.typed", "prompts.json", "refiners/marking.json", "weights/**/*"],
        "zsas.examples": ["*", "capsules/*/*"],
        "zsas.ui": ["static/*"],
    },
)
