"""What code and configuration lines say: names made of words, paths of modules, switches, unused values.

A key says "focal_loss_weight" where a sentence says "focal loss weight", a class says "MSEHead", and a path
names the packages that a class lies in, which say nothing of it: of `diffusion_lib.policies.IbcPolicy` only
the last name counts. A value that is computed and never enters the loss is a number to look at.
"""

import re

_PATH = re.compile(r"(?<![\w./])(?:[A-Za-z_]\w*\.){2,}(?=[A-Za-z_])")
_ADDRESS = re.compile(
    r"https?://\S+|(?:[\w.\-]+/)+(?=[\w.\-]+\.(?:py|ya?ml|sh|md|ipynb|json)\b)|"
    r"(?=[\w.\-/]*_)(?:[\w.\-]+/){2,}[\w.\-]*|[\w.\-]+(?:/[\w.\-]+)*/(?=[\s`,.)]|$)"
)
_IMPORT = re.compile(r"\s*(?:from\s+[\w.]+\s+import\b|import\s+\w+(?:\.\w+)*(?:\s+as\s+\w+)?\s*$)")
_CAMEL = re.compile(r"\b[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*[A-Z]\w*|\b[A-Z]{2,}[A-Z][a-z]\w*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OFF = re.compile(
    r"(?:[=:|]|^\s*--?[\w.\-]+\s)\s*['\"]?(?:false|no|off|none|null|0|0\.0)['\"]?\s*(?:[,|#}\\]|$)", re.I
)
_CONDITIONAL = re.compile(
    r"#[^\n]*?\b(?:when\b|only (?:if|when|used|for)\b|(?:used|needed|required) (?:if|when)\b)", re.I
)
_TRUE = re.compile(r"[=:|]\s*['\"]?true\b", re.I)
_LOSS_LINE = re.compile(r"(?m)^[^\n#=]*loss\w*['\"\])]*\s*\+?=(?!=)\s*(?P<value>[^\n#]+)", re.I)
_ASSIGNED = re.compile(
    r"^\s*(?P<name>[A-Za-z_]\w*)\s*=(?!=)|^\s*[\"'](?P<key>\w+)[\"']\s*:\s*(?P=key)(?:\.\w+\(\))?\s*,?\s*$"
)
_RETURNED = re.compile(r"\breturn\s+\w*loss\b", re.I)


def without_paths(body: str) -> str:
    """The line with blanks for addresses, folders and the packages of a dotted path; as long as before.

    Example:
      >>> without_paths("_target_: flow_lib.policy.IbcPolicy  # flow").split()
      ['_target_:', 'IbcPolicy', '#', 'flow']
    """
    body = _ADDRESS.sub(lambda m: " " * len(m.group()), body)
    return _PATH.sub(lambda m: m.group() if m.group().startswith("self.") else " " * len(m.group()), body)


def class_names(body: str):
    """(start, end, words) of each name in camel case, cut at its humps.

    Example:
      >>> list(class_names("class MSEActionHead(Head):"))
      [(6, 19, 'MSE Action Head')]
    """
    for match in _CAMEL.finditer(body):
        yield match.start(), match.end(), _HUMP.sub(" ", match.group())


def is_off(line: str) -> bool:
    """Whether a setting switches off what it names.

    Example:
      >>> is_off("--use_l1 False"), is_off("use_l1: bool = False  # regression"), is_off("l1_weight: 0.1")
      (True, True, False)
    """
    return bool(_OFF.search(line))


def is_conditional(line: str) -> bool:
    """Whether the comment of a setting says that it counts only when another one is on.

    Example:
      >>> is_conditional("steps: int = 50  # (When `use_noise` is on) steps of the corruption")
      True
    """
    return bool(_CONDITIONAL.search(line)) and not _TRUE.search(line.split("#")[0])


def is_import(text: str, at: int) -> bool:
    """Whether the line around an offset imports a name, which is no use of it.

    Example:
      >>> is_import("from torch.nn import MSELoss\\nloss = MSELoss()", 20)
      True
    """
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return bool(_IMPORT.match(text[begin : end if end >= 0 else len(text)]))


def is_unused(line: str, text: str) -> bool:
    """Whether a line computes a value that the text's loss does not hold.

    Args:
      line: `mse = ((a - b) ** 2).mean()`.
      text: the whole text; where it assigns no loss, nothing is unused.

    Example:
      >>> code = "mse = ((a - b) ** 2).mean()\\nactor_loss = -log_probs.mean()"
      >>> is_unused(code.splitlines()[0], code), is_unused(code.splitlines()[1], code)
      (True, False)
    """
    assigned = _ASSIGNED.match(line)
    name = (assigned["name"] or assigned["key"]) if assigned else "loss"
    if "loss" in name.lower():
        return False
    losses = [m["value"] for m in _LOSS_LINE.finditer(text)]
    known = bool(losses) or bool(_RETURNED.search(text))
    return known and not any(re.search(rf"\b{name}\b", value) for value in losses)
