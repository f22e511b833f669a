"""Run by the engine's interpreter: prints what KServe's own client reads in a configuration, and fetches the model.

`kserve_judge.py FOLDER FILE OUT`: KServe lies in FOLDER, whose packages come after the engine's own. The model goes to
OUT as KServe's storage initialiser puts it beside a predictor.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(sys.argv[1])

import kserve.models  # type: ignore[import-not-found, unused-ignore]
import kubernetes.client  # type: ignore[import-not-found, unused-ignore]
import yaml  # type: ignore[import-untyped]
from kserve_storage import Storage  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    # The client looks all names up in its own module, and has not those of Kubernetes there.
    for name in dir(kubernetes.client):
        if name.startswith("V1") and not hasattr(kserve.models, name):
            setattr(kserve.models, name, getattr(kubernetes.client, name))
    document = yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8"))
    client = kserve.ApiClient()
    service = client.deserialize(SimpleNamespace(data=json.dumps(document)), "V1beta1InferenceService")
    Storage.download(service.spec.predictor.model.storage_uri, sys.argv[3])
    sys.stdout.write(json.dumps(client.sanitize_for_serialization(service)) + "\n")


if __name__ == "__main__":
    main()
