#include "support/failing_new.h"

#include <cstdlib>
#include <new>

namespace telemetryd::test {
namespace {

thread_local bool exempt = false;
constinit SharedAllocations shared;

bool fails(Allocations& of) {
  if (of.left == kAllSucceed) return false;
  if (of.left > 0) {
    --of.left;
    return false;
  }
  of.failed = true;
  if (!of.fails_on) of.left = kAllSucceed;
  return true;
}

bool fails(SharedAllocations& of, std::size_t size) {
  if (size < of.bytes_min) return false;
  long left = of.left;
  long after = 0;
  do {
    if (left == kAllSucceed) return false;
    after = left > 0 ? left - 1 : of.fails_on ? 0 : kAllSucceed;
  } while (!of.left.compare_exchange_weak(left, after));
  if (left > 0) return false;
  of.failed = true;
  return true;
}

}  // namespace

Allocations& allocations() {
  thread_local Allocations of_this_thread;
  return of_this_thread;
}

SharedAllocations& shared_allocations() {
  return shared;
}

void exempt_this_thread() {
  exempt = true;
}

void* allocate(std::size_t size) {
  if (fails(allocations()) || (!exempt && fails(shared, size))) throw std::bad_alloc();
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

}  // namespace telemetryd::test

// All stay whole functions: inlined, the compiler would take free() for a mistake.
__attribute__((noinline)) void* operator new(std::size_t size) {
  return telemetryd::test::allocate(size);
}

__attribute__((noinline)) void operator delete(void* memory) noexcept {
  std::free(memory);
}

__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
