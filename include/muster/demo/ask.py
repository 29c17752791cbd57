"""
Ask models, as the service that uses them does: ``environment/bin/python ask.py TRACKING_URI MODEL_URI…``, rows on stdin, answers on stdout.

Runs in the model's own environment, where nothing of Muster is, so that Muster does not judge itself. Answers are hexadecimal floats: they
survive the pipe to the last bit.
"""

import json
import os
import sys


def main() -> None:
    os.environ["MLFLOW_TRACKING_URI"] = sys.argv[1]
    import mlflow.pyfunc
    import pandas as pd

    request = json.load(sys.stdin)
    rows = pd.DataFrame(request["data"], columns=request["columns"])
    answers = {}
    for uri in sys.argv[2:]:
        model = mlflow.pyfunc.load_model(uri)
        wanted = {column.name: column.type.to_pandas() for column in model.metadata.signature.inputs}
        answers[uri] = [float(answer).hex() for answer in model.predict(rows[list(wanted)].astype(wanted))]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
