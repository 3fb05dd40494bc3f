"""The official checkers on one role's SBOMs: SPDX's own library, CycloneDX's own library with its JSON schema, and
purl's own parser. Names what is wrong on standard error and exits with 1.

    check_sbom.py FOLDER

Needs spdx-tools, cyclonedx-python-lib[json-validation] and packageurl-python (tests/requirements.txt).
"""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def main(folder: Path) -> int:
    problems = []
    document = parse_file(str(folder / "sbom.spdx.json"))
    for message in validate_full_spdx_document(document, "SPDX-2.3")[:20]:
        problems.append(f"SPDX: {message.validation_message}: {message.context}")
    text = (folder / "sbom.cdx.json").read_text()
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        problems.append(f"CycloneDX: {fault}")
    components = json.loads(text)["components"]
    locators = [component["purl"] for component in components]
    locators += [ref.locator for package in document.packages for ref in package.external_references]
    for locator in locators:
        if PackageURL.from_string(locator).to_string() != locator:
            problems.append(f"purl: {locator} is not canonical: {PackageURL.from_string(locator).to_string()}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(document.packages)} packages, {len(document.files)} files, {len(components)} components")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
