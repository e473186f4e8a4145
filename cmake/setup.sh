# Sourced by examples/run and tests/run: installs what is missing, and nothing else.
#
#   setup NEED...    each NEED is one of the names below

# need NAME: whether it is there. Asked of the machine, not of a package manager, so that other systems do as well.
need() {
  case $1 in
    g++) command -v g++ ;;
    cmake) command -v cmake ;;
    ninja-build) command -v ninja || command -v make ;;
    clang-19) command -v clang++-19 ;;
    clang-format-19) command -v clang-format-19 ;;
    clang-tidy-19) command -v clang-tidy-19 ;;
    python3) command -v python3 ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    libboost-dev) includes boost/hana.hpp ;;
    libboost-context-dev) links boost_context ;;
    doctest-dev) includes doctest/doctest.h ;;
    libcli11-dev) includes CLI/CLI.hpp ;;
    nlohmann-json3-dev) includes nlohmann/json.hpp ;;
    libpcre2-dev) links pcre2-8 ;;
    libfmt-dev) includes fmt/format.h && links fmt ;;
    libopenmpi-dev) command -v mpicxx ;;
    openmpi-bin) command -v mpiexec ;;
    libmpich-dev) command -v mpicxx.mpich ;;
    mpich) command -v mpiexec.mpich ;;
    iproute2) command -v ip ;;
    libbenchmark-dev) includes benchmark/benchmark.h && links benchmark ;;
    libopenblas-dev) includes cblas.h && links openblas ;;
    *) echo "setup: no rule to look for '$1'" >&2; exit 2 ;;
  esac >/dev/null 2>&1
}
includes() { echo "#include <$1>" | g++ -std=c++20 -x c++ -E -; }
links() {
  local program status=0
  program=$(mktemp)
  echo 'int main() {}' | g++ -x c++ - "-l$1" -o "$program" || status=1
  rm -f "$program"
  return $status
}

setup() {
  local missing=() name root=()
  for name in "$@"; do need "$name" || missing+=("$name"); done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "Missing: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    if ! command -v apt-get >/dev/null; then
      manual_steps "there is no apt-get here" "${missing[@]}"
    elif [ ${#root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
      manual_steps "this needs root, and there is no sudo" "${missing[@]}"
    fi
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    echo "Installing them: apt-get install --no-install-recommends ${missing[*]}"
    local log
    log=$(mktemp)
    if ! "${apt[@]}" update >"$log" 2>&1 || ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      manual_steps "apt-get failed (its last lines are above)" "${missing[@]}"
    fi
    rm -f "$log"
    for name in "${missing[@]}"; do
      need "$name" || manual_steps "'$name' is installed, but still not found by the compiler" "$name"
    done
  fi
  local version
  version=$(cmake --version | sed -n '1s/[^0-9]*//p')
  if [ "$(printf '%s\n' 3.25 "$version" | sort -V | head -n 1)" != 3.25 ]; then
    echo "CMake 3.25 or later is needed, this is $version: see https://cmake.org/download, or use Debian 12 or later." >&2
    exit 1
  fi
}

# faster_blas: where OpenBLAS does not know the processor, newer than itself, it takes kernels of 2004; then it is told which fit.
# (The programs say the same of themselves: gpt2/host/gemm.hpp.)
faster_blas() {
  if [ -n "${OPENBLAS_CORETYPE-}" ] ||
    [ "$(OPENBLAS_VERBOSE=2 LD_PRELOAD=libopenblas.so.0 /bin/true 2>&1)" != "Core: Prescott" ]; then return 0; fi
  case $(grep -m 1 ^flags /proc/cpuinfo) in
    *avx512bw*avx512vl*) export OPENBLAS_CORETYPE=SkylakeX ;;
    *fma*avx2*) export OPENBLAS_CORETYPE=Haswell ;;
    *) return 0 ;;
  esac
  echo "OpenBLAS does not know this processor; for kernels that suit it, OPENBLAS_CORETYPE=$OPENBLAS_CORETYPE is set for this run"
}

manual_steps() {
  local why=$1
  shift
  {
    echo "Cannot install what is missing: $why. Please install these yourself, then run this again:"
    echo "  as root on Debian 12 or later:  apt-get update && apt-get install $*"
    echo "  elsewhere: a C++20 compiler (g++ 12 or later), CMake 3.25, ninja or make, and of the list above the"
    echo "  libraries of the same names: Boost (Hana), OpenBLAS, CLI11, fmt, nlohmann-json, doctest, Google Benchmark"
  } >&2
  exit 1
}

# libtorch DIRECTORY: a virtual environment with LibTorch as a pip wheel, where it is not there yet: 1.3 GB without what only
# Python needs. Where that fails, it says so, and the LibTorch adapter is not built.
libtorch() {
  local folder=$1
  [ ! -e "$folder/complete" ] || return 0
  echo "Installing LibTorch into $folder"
  rm -rf "$folder"
  if python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps 'torch>=2.6,<3' nvidia-cuda-runtime nvidia-cuda-cupti; then
    touch "$folder/complete"
  else
    rm -rf "$folder"
    echo "LibTorch could not be installed (the error is above), so that the LibTorch adapter is not tested" >&2
  fi
}

# cuda DIRECTORY: one with what is needed of a CUDA 13 toolkit and NCCL, as pip wheels, where neither it nor a toolkit with NCCL is
# there: 0.7 GB to load, 1.1 GB there. Nothing of it needs a GPU. Where that fails, it says so, and the CUDA adapters are not built.
# All of one minor version, since compiler, headers and libraries must fit each other; the first, for the sake of older drivers.
cuda() {
  local folder=$1
  if [ -e "$folder/complete" ] || has_cuda; then return 0; fi
  echo "Installing a CUDA toolkit into $folder"
  rm -rf "$folder"
  if python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps nvidia-{cuda-nvcc,nvvm,cuda-crt,cuda-runtime,cuda-cccl,nvtx}'==13.0.*' \
      'nvidia-cublas==13.1.0.*' 'nvidia-nccl-cu13==2.28.*'; then
    touch "$folder/complete"
  else
    rm -rf "$folder"
    echo "A CUDA toolkit could not be installed (the error is above), so that the CUDA adapters are not tested" >&2
  fi
}
has_cuda() {
  local nvcc
  nvcc=$(PATH=$PATH:/usr/local/cuda/bin && command -v nvcc) || return 1
  printf '#include <%s>\n' cublasLt.h nccl.h cuda_runtime_api.h nvtx3/nvToolsExt.h | cat - <(echo 'static_assert(CUDART_VERSION >= 13000);') |
    g++ -x c++ -I"$(dirname "$(dirname "$(readlink -f "$nvcc")")")/include" -fsyntax-only - >/dev/null 2>&1
}

# cudnn DIRECTORY: one with the headers of cuDNN, of its frontend and of NVRTC, which that includes, as pip wheels, where the compiler
# has none of a frontend: 0.2 GB to load, 0.5 GB there. (The wheel of cuDNN's just-in-time engines is a fifth of the whole one.) Where
# that fails, it says so, and GPT-2's CUDA adapter is built without cuDNN's attention.
cudnn() {
  local folder=$1
  if [ -e "$folder/complete" ] || { includes cudnn_version.h && includes cudnn_frontend_version.h; } >/dev/null 2>&1; then return 0; fi
  echo "Installing cuDNN's headers into $folder"
  rm -rf "$folder"
  if python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps 'nvidia-cudnn-frontend==1.32.*' 'nvidia-cudnn-jit-cu13==9.27.*' \
      'nvidia-cuda-nvrtc==13.0.*'; then
    touch "$folder/complete"
  else
    rm -rf "$folder"
    echo "cuDNN's headers could not be installed (the error is above), so that attention by cuDNN is not tested" >&2
  fi
}

# pytorch DIRECTORY: one with all of PyTorch, as Python imports it, and Hugging Face's transformers: 5.6 GB. Fails where that does.
pytorch() {
  local folder=$1
  [ ! -e "$folder/with-transformers" ] || return 0
  echo "Installing PyTorch into $folder" >&2
  rm -rf "$folder"
  python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check 'torch>=2.6,<3' numpy transformers safetensors &&
    touch "$folder/with-transformers"
}

# build PRESET DIRECTORY [ARGUMENT...]: configures and builds, with ninja in a new directory where it is there.
# Goes on after an error, so that one run shows them all.
build() {
  local preset=$1 directory=$2 go_on=(-k)
  shift 2
  if [ ! -e "$directory/CMakeCache.txt" ] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  cmake --preset "$preset" || return 1
  if [ -e "$directory/build.ninja" ]; then go_on=(-k 0); fi
  cmake --build "$directory" --parallel "$(nproc)" "$@" -- "${go_on[@]}"
}
