"""Functions of the playground's modules, called in Node: what they compute needs no browser."""

import json
import shutil
import subprocess
from typing import Any, Final

from noisevote.service.rest.playground.files import FOLDER

NODE: Final = shutil.which("node")
OLDEST: Final = (20, 19)  # the first that takes .js files for modules where their text shows it
# Bytes and doubles come back as lists. `Class.method` is called on a new object, once for each argument; `.method`
# is called on the first argument. What comes as {"$policy": …} is a Policy.
SCRIPT: Final = """
const text = require("fs").readFileSync(0, "utf8");
const plain = (key, value) => ArrayBuffer.isView(value) ? [...value] : value === undefined ? null : value;
(async () => {
  const { Policy } = await import(JSON.parse(text)[0] + "/policy.js");
  const revived = (_, value) => value?.$policy === undefined ? value : new Policy(value.$policy);
  const [folder, calls] = JSON.parse(text, revived);
  const results = [];
  for (const [file, name, ...given] of calls) {
    const module = await import(folder + "/" + file);
    const [made, method] = name.split(".");
    const object = made && method && new module[made]();
    if (object) results.push(given.map(each => object[method](each)));
    else results.push(method ? given[0][method](...given.slice(1)) : module[name](...given));
  }
  console.log(JSON.stringify(results, plain));
})();
"""


def missing() -> str | None:
    """Why nothing can be called here; None: it can."""
    if NODE is None:
        return "node is not installed"
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    return f"node {version} is older than {OLDEST}" if (int(major), int(minor)) < OLDEST else None


def call(*calls: tuple[Any, ...]) -> list[Any]:
    """Results of calls, each as (file, function, *arguments)."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--no-warnings", "--input-type=commonjs", "-e", SCRIPT],
        input=json.dumps([FOLDER.resolve().as_uri(), calls]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout)
    return results
