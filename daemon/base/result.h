// base/result.h: a value or an Error; nothing throws across a module.
//
// An ignored Result is caught by clang-tidy (bugprone-unused-return-value) and by [[nodiscard]] on
// the functions of this tree.

#pragma once

#include <expected>
#include <string>
#include <utility>

#include "base/error.h"

namespace telemetryd {

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected<Error>(Error(code, std::move(message)));
}

inline std::unexpected<Error> fail(Error error) {
  return std::unexpected<Error>(std::move(error));
}

}  // namespace telemetryd

// Returns the error of `expression` from the calling function, or goes on.
#define TELEMETRYD_TRY(expression)                                     \
  do {                                                                 \
    if (auto try_result = (expression); !try_result) {                 \
      return std::unexpected<::telemetryd::Error>(try_result.error()); \
    }                                                                  \
  } while (false)

#define TELEMETRYD_CONCAT_INNER(a, b) a##b
#define TELEMETRYD_CONCAT(a, b) TELEMETRYD_CONCAT_INNER(a, b)

// Declares `declaration` from the value of `expression`, or returns its error.
#define TELEMETRYD_ASSIGN(declaration, expression) \
  TELEMETRYD_ASSIGN_IMPL(TELEMETRYD_CONCAT(assign_result_, __LINE__), declaration, expression)
#define TELEMETRYD_ASSIGN_IMPL(name, declaration, expression)  \
  auto name = (expression);                                    \
  if (!name) {                                                 \
    return std::unexpected<::telemetryd::Error>(name.error()); \
  }                                                            \
  declaration = std::move(*name)
