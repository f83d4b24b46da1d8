// SPDX-License-Identifier: Apache-2.0
// Registers our ops in the TensorFlow of this process.
#pragma once
#include <string>

namespace tacotune::tensorflow {

/// Empty, or why they could not be registered. Once they are there, a further call does nothing. Not to be called from two
/// threads at a time.
std::string register_ops();

}  // namespace tacotune::tensorflow
