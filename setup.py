"""What pyproject.toml cannot say: `examples/` is installed as `zsas/examples`, `docs/` as `zsas/manual`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["zsas", "zsas.*"]), "zsas.examples", "zsas.manual"],
    package_dir={"zsas.examples": "examples", "zsas.manual": "docs"},
    package_data={
        "zsas": ["py.typed", "prompts.json", "refiners/marking.json", "weights/**/*"],
        "zsas.examples": ["*", "capsules/*/*"],
        "zsas.manual": [
            "*.md",
            "references.png",
            "page-phone.png",
            "page-embed.png",
            "page-many.png",
        ],
        "zsas.ui": ["static/*"],
    },
)
