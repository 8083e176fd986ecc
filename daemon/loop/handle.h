// loop/handle.h: how a uv handle belongs to one of our objects.
//
// libuv wants a handle to stay where it is until its close callback, which comes later. So each
// handle sits in a box of its own: the owner may go at any time on the loop thread, also from
// inside its own callback; the box follows when libuv has let go.
//
// Thread:  loop.

#pragma once

#include <memory>

#include <uv.h>

#include "base/check.h"

namespace telemetryd::loop {

template <typename UvHandle, typename Owner>
struct Box {
  UvHandle uv{};
  Owner* owner = nullptr;  // null once the owner is gone
};

struct CloseOnLoop {
  template <typename UvHandle, typename Owner>
  void operator()(Box<UvHandle, Owner>* box) const noexcept {
    using Closed = Box<UvHandle, Owner>;
    box->owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->uv),
             [](uv_handle_t* handle) noexcept { delete static_cast<Closed*>(handle->data); });
  }
};

template <typename UvHandle, typename Owner>
using BoxPtr = std::unique_ptr<Box<UvHandle, Owner>, CloseOnLoop>;

// `init` is the uv_*_init call; one that fails is a bug of ours or a kernel without the feature.
template <typename UvHandle, typename Owner, typename Init>
BoxPtr<UvHandle, Owner> make_box(Owner* owner, Init init) {
  auto box = std::make_unique<Box<UvHandle, Owner>>();
  TELEMETRYD_CHECK(init(&box->uv) == 0);
  box->uv.data = box.get();
  box->owner = owner;
  return BoxPtr<UvHandle, Owner>(box.release());
}

template <typename Owner, typename UvHandle>
Box<UvHandle, Owner>* box_of(UvHandle* handle) {
  return static_cast<Box<UvHandle, Owner>*>(handle->data);
}

}  // namespace telemetryd::loop
