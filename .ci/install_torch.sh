#!/bin/sh
# install_torch.sh PYTHON REQUIREMENT: on Linux without an NVIDIA GPU, installs torch's CPU build.
#
# PyPI's build for Linux bundles CUDA, which takes 4 GB. It is left to the pip that follows if there
# is a GPU, if GPU=1 asks for it, or if no CPU build is found: neither among the packages that pip
# is configured to find on this machine, nor at TORCH_INDEX.
set -eu
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
if [ "$(uname)" != Linux ] || [ "${GPU:-0}" != 0 ] || nvidia-smi -L 2>/dev/null | grep -q "GPU 0"; then
    exit 0
fi
install() {
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --retries 1 --timeout 10 "$@" "$requirement" >/dev/null 2>&1
}
python=$1 requirement=$2
install --no-index || install --index-url "$index" ||
    echo "No CPU build of $requirement at $index; pip takes PyPI's, with CUDA. TORCH_INDEX=URL names another index."
