// SPDX-License-Identifier: Apache-2.0
#include <pipewright/mpi/link.hpp>

static_assert(pipewright::transport<pipewright::mpi::endpoint>);

int main() {
  int version = 0, minor = 0;
  return MPI_Get_version(&version, &minor) == MPI_SUCCESS && version >= 3 ? 0 : 1;
}
