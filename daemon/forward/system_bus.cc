#include "forward/system_bus.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>

#include <systemd/sd-bus.h>

#include "base/log.h"
#include "forward/bus_message.h"

namespace telemetryd::forward {
namespace {

constexpr const char* kProperties = "org.freedesktop.DBus.Properties";
constexpr const char* kObjectManager = "org.freedesktop.DBus.ObjectManager";
constexpr const char* kModem = "org.freedesktop.ModemManager1.Modem.Modem3gpp";

bool take_network(sd_bus_message* answer, Facts& facts) {
  BusProperties properties;
  if (!read_properties(answer, properties)) return false;
  NetworkFacts network;
  if (const auto* metered = find<std::uint32_t>(properties, "Metered")) network.metered = *metered;
  if (const auto* type = find<std::string>(properties, "PrimaryConnectionType")) {
    network.connection_type = *type;
  }
  facts.network = network;
  return true;
}

bool take_modems(sd_bus_message* answer, Facts& facts) {
  ModemFacts modems;
  const bool read = read_objects(answer, kModem, [&](const BusProperties& modem) {
    const auto* state = find<std::uint32_t>(modem, "RegistrationState");
    modems.roaming = modems.roaming || (state != nullptr && is_roaming(*state));
  });
  if (read) facts.modems = modems;
  return read;
}

bool take_power(sd_bus_message* answer, Facts& facts) {
  BusProperties properties;
  if (!read_properties(answer, properties)) return false;
  const auto* on_battery = find<bool>(properties, "OnBattery");
  if (on_battery == nullptr) return false;
  facts.power = PowerFacts{*on_battery};
  return true;
}

bool take_battery(sd_bus_message* answer, Facts& facts) {
  BusProperties properties;
  if (!read_properties(answer, properties)) return false;
  const auto* percent = find<double>(properties, "Percentage");
  if (percent == nullptr) return false;
  facts.battery = BatteryFacts{*percent};
  return true;
}

BootMs monotonic_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return BootMs{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

struct SystemBus::Impl {
  // One call to one service, whose answer is one of the facts.
  struct Question {
    const char* service;
    const char* path;
    const char* interface;  // whose properties are asked for; empty: all objects of the service
    // Puts the answer into the facts; false when it is not understood.
    bool (*take)(sd_bus_message* answer, Facts& facts);
    void (*forget)(Facts& facts);

    Impl* bus = nullptr;
    bool asking = false;
    bool ask_again = false;  // something changed while an answer was on its way
    bool known = false;
    std::optional<BootMs> forget_at;
  };

  explicit Impl(const Clock& clock_arg) : clock(clock_arg) {
    if (sd_bus_open_system(&bus) < 0) {
      bus = nullptr;
      return;
    }
    sd_bus_set_exit_on_disconnect(bus, 0);
    for (Question& question : questions) {
      question.bus = this;
      if (bus != nullptr && !watch(question)) close();
      ask(question);
    }
  }

  ~Impl() { close(); }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  const Clock& clock;
  sd_bus* bus = nullptr;
  Facts facts;
  std::array<Question, 4> questions = {Question{"org.freedesktop.NetworkManager",
                                                "/org/freedesktop/NetworkManager",
                                                "org.freedesktop.NetworkManager",
                                                &take_network,
                                                [](Facts& f) { f.network.reset(); }},
                                       Question{"org.freedesktop.ModemManager1",
                                                "/org/freedesktop/ModemManager1",
                                                "",
                                                &take_modems,
                                                [](Facts& f) { f.modems.reset(); }},
                                       Question{"org.freedesktop.UPower",
                                                "/org/freedesktop/UPower",
                                                "org.freedesktop.UPower",
                                                &take_power,
                                                [](Facts& f) { f.power.reset(); }},
                                       Question{"org.freedesktop.UPower",
                                                "/org/freedesktop/UPower/devices/DisplayDevice",
                                                "org.freedesktop.UPower.Device",
                                                &take_battery,
                                                [](Facts& f) { f.battery.reset(); }}};

  static int on_signal(sd_bus_message*, void* question, sd_bus_error*) noexcept;
  static int on_answer(sd_bus_message* answer, void* question, sd_bus_error*) noexcept;
  static int on_watched(sd_bus_message*, void*, sd_bus_error*) noexcept;
  bool watch(Question& question);
  bool watch(Question& question, const std::string& rule);
  void ask(Question& question);
  void answered(Question& question, sd_bus_message* answer);
  void lost(Question& question);
  void forget_due();
  void serve();
  void close();
};

// Something changed at the service, or it came or went.
int SystemBus::Impl::on_signal(sd_bus_message*, void* question, sd_bus_error*) noexcept {
  auto* about = static_cast<Question*>(question);
  about->bus->ask(*about);
  return 0;
}

int SystemBus::Impl::on_answer(sd_bus_message* answer, void* question, sd_bus_error*) noexcept {
  auto* about = static_cast<Question*>(question);
  about->bus->answered(*about, answer);
  return 0;
}

// A rule that is refused leaves us with the first answer.
int SystemBus::Impl::on_watched(sd_bus_message*, void*, sd_bus_error*) noexcept {
  return 0;
}

bool SystemBus::Impl::watch(Question& question, const std::string& rule) {
  return sd_bus_add_match_async(bus, nullptr, rule.c_str(), &on_signal, &on_watched, &question) >=
         0;
}

bool SystemBus::Impl::watch(Question& question) {
  const std::string from = std::string("type='signal',sender='") + question.service + "',";
  const std::string owner =
      std::string(
          "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
          "member='NameOwnerChanged',arg0='") +
      question.service + "'";
  if (!watch(question, owner)) return false;
  const std::string changed =
      from + "interface='" + kProperties + "',member='PropertiesChanged',arg0='";
  if (*question.interface != '\0') {
    return watch(question, changed + question.interface + "',path='" + question.path + "'");
  }
  return watch(question, changed + kModem + "'") &&
         watch(question, from + "interface='" + kObjectManager + "',path='" + question.path + "'");
}

void SystemBus::Impl::ask(Question& question) {
  question.ask_again = question.asking;
  if (question.asking || bus == nullptr) return;
  const bool properties = *question.interface != '\0';
  sd_bus_message* call = nullptr;
  int made = sd_bus_message_new_method_call(bus,
                                            &call,
                                            question.service,
                                            question.path,
                                            properties ? kProperties : kObjectManager,
                                            properties ? "GetAll" : "GetManagedObjects");
  if (made >= 0 && properties) made = sd_bus_message_append(call, "s", question.interface);
  if (made >= 0) made = sd_bus_message_set_auto_start(call, 0);
  const auto within = std::chrono::duration_cast<std::chrono::microseconds>(kAnswerMax).count();
  if (made >= 0) {
    made = sd_bus_call_async(
        bus, nullptr, call, &on_answer, &question, static_cast<std::uint64_t>(within));
  }
  sd_bus_message_unref(call);
  if (made < 0) return lost(question);
  question.asking = true;
}

void SystemBus::Impl::answered(Question& question, sd_bus_message* answer) {
  question.asking = false;
  const bool taken =
      sd_bus_message_is_method_error(answer, nullptr) == 0 && question.take(answer, facts);
  if (taken) {
    question.known = true;
    question.forget_at.reset();
  } else {
    lost(question);
  }
  if (question.ask_again) ask(question);
}

void SystemBus::Impl::lost(Question& question) {
  if (question.known && !question.forget_at) {
    question.forget_at = clock.boot_ms() + kGrace.count();
  }
}

void SystemBus::Impl::forget_due() {
  for (Question& question : questions) {
    if (!question.forget_at || clock.boot_ms() < *question.forget_at) continue;
    question.forget_at.reset();
    question.known = false;
    question.forget(facts);
  }
}

void SystemBus::Impl::serve() {
  for (int i = 0; bus != nullptr && i < kMessagesAtOnceMax; ++i) {
    const int served = sd_bus_process(bus, nullptr);
    if (served == 0) break;
    if (served < 0) {
      log::debug("system_bus_lost", {{"cause", std::string_view(::strerror(-served))}});
      close();
    }
  }
  forget_due();
}

void SystemBus::Impl::close() {
  if (bus == nullptr) return;
  // Answers that are owed come no more, nor do calls of ours from inside.
  bus = sd_bus_close_unref(bus);
  for (Question& question : questions) {
    question.asking = question.ask_again = false;
    lost(question);
  }
}

SystemBus::SystemBus(const Clock& clock) : impl_(std::make_unique<Impl>(clock)) {}

SystemBus::~SystemBus() = default;

std::optional<pollfd> SystemBus::descriptor() const {
  if (impl_->bus == nullptr) return std::nullopt;
  const int fd = sd_bus_get_fd(impl_->bus);
  const int events = sd_bus_get_events(impl_->bus);
  if (fd < 0 || events < 0) return std::nullopt;
  return pollfd{fd, static_cast<short>(events), 0};
}

std::optional<BootMs> SystemBus::deadline() const {
  std::optional<BootMs> first;
  for (const auto& question : impl_->questions) {
    if (question.forget_at)
      first = std::min(first.value_or(*question.forget_at), *question.forget_at);
  }
  std::uint64_t until_us = 0;
  if (impl_->bus == nullptr || sd_bus_get_timeout(impl_->bus, &until_us) < 0) return first;
  if (until_us == UINT64_MAX) return first;
  // The library counts without the time asleep; how far away it is is the same.
  const BootMs left =
      std::max<BootMs>(0, static_cast<BootMs>((until_us + 999) / 1000) - monotonic_ms());
  const BootMs at = impl_->clock.boot_ms() + left;
  return std::min(first.value_or(at), at);
}

void SystemBus::serve() {
  impl_->serve();
}

bool SystemBus::settled() const {
  return std::ranges::none_of(impl_->questions,
                              [](const auto& question) { return question.asking; });
}

const Facts& SystemBus::facts() const {
  return impl_->facts;
}

}  // namespace telemetryd::forward
