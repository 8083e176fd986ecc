#include "support/failing_new.h"

#include <cstdlib>
#include <new>

namespace telemetryd::test {

Allocations& allocations() {
  thread_local Allocations of_this_thread;
  return of_this_thread;
}

}  // namespace telemetryd::test

// Both stay whole functions: inlined, the compiler would take free() for a mistake.
__attribute__((noinline)) void* operator new(std::size_t size) {
  auto& of = telemetryd::test::allocations();
  if (of.left == 0) {
    of.failed = true;
    if (!of.fails_on) of.left = telemetryd::test::kAllSucceed;
    throw std::bad_alloc();
  }
  if (of.left > 0) --of.left;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

__attribute__((noinline)) void operator delete(void* memory) noexcept {
  std::free(memory);
}

__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
