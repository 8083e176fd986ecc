#include <CLI/CLI.hpp>

#include "ctl/attribute.h"
#include "ctl/emitter.h"
#include "ctl/ingest_socket.h"
#include "ctl/session.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

struct SendOptions {
  std::string app;
  std::string name;
  std::string category;
  std::string kind = "event";
  std::vector<std::string> attributes;
  bool urgent = false;
  double wait_seconds = 5;
};

const std::map<std::string, telemetry_kind_t>& kinds() {
  static const std::map<std::string, telemetry_kind_t> all = {{"event", TELEMETRY_KIND_EVENT},
                                                              {"command", TELEMETRY_KIND_COMMAND},
                                                              {"feature", TELEMETRY_KIND_FEATURE},
                                                              {"metric", TELEMETRY_KIND_METRIC},
                                                              {"error", TELEMETRY_KIND_ERROR},
                                                              {"init", TELEMETRY_KIND_INIT}};
  return all;
}

// Points into `from`, which must live as long.
telemetry_attribute_t c_attribute(const TypedAttribute& from) {
  telemetry_attribute_t to{};
  to.key = from.key.c_str();
  if (const auto* text = std::get_if<std::string>(&from.value)) {
    to.type = TELEMETRY_VALUE_STRING;
    to.value.string_value = text->c_str();
    to.string_size = text->size();
  } else if (const auto* flag = std::get_if<bool>(&from.value)) {
    to.type = TELEMETRY_VALUE_BOOL;
    to.value.bool_value = *flag ? 1 : 0;
  } else if (const auto* number = std::get_if<std::int64_t>(&from.value)) {
    to.type = TELEMETRY_VALUE_INT;
    to.value.int_value = *number;
  } else {
    to.type = TELEMETRY_VALUE_DOUBLE;
    to.value.double_value = std::get<double>(from.value);
  }
  return to;
}

Result<int> send_event(Session& session, const SendOptions& options) {
  std::vector<TypedAttribute> attributes;
  for (const auto& text : options.attributes) {
    TELEMETRYD_ASSIGN(TypedAttribute attribute, parse_attribute(text));
    attributes.push_back(std::move(attribute));
  }
  std::vector<telemetry_attribute_t> c_attributes;
  for (const auto& attribute : attributes) c_attributes.push_back(c_attribute(attribute));

  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = options.name.c_str();
  event.category = options.category.empty() ? nullptr : options.category.c_str();
  event.kind = kinds().at(options.kind);
  event.urgency = options.urgent ? TELEMETRY_URGENCY_URGENT : TELEMETRY_URGENCY_NORMAL;
  event.attributes = c_attributes.data();
  event.attribute_count = c_attributes.size();

  TELEMETRYD_ASSIGN(Emitter emitter, Emitter::open(options.app, ingest_socket_of(session)));
  TELEMETRYD_TRY(emitter.emit(
      event, std::chrono::milliseconds(static_cast<std::int64_t>(options.wait_seconds * 1000))));
  if (session.json) {
    session.print("{\"acknowledged\":1}\n");
  } else {
    session.note("Acknowledged: the event is on stable storage.");
  }
  return kOk;
}

}  // namespace

void add_event_send(CLI::App& event, Command& chosen) {
  auto* send = event.add_subcommand("send", "Send one event and wait until it is stored");
  auto options = std::make_shared<SendOptions>();
  send->add_option("--app", options->app, "The app that it belongs to")->required();
  send->add_option("--name", options->name, "What happened")->required();
  send->add_option("--category", options->category, "A word to group names by");
  send->add_option("--kind", options->kind, "event, command, feature, metric, error or init")
      ->check([](const std::string& word) -> std::string {
        if (kinds().contains(word)) return {};
        return "'" + printable(word) + "' is not event, command, feature, metric, error or init";
      });
  send->add_option("--attr",
                   options->attributes,
                   "KEY=VALUE, or KEY:TYPE=VALUE with string, bool, int or double")
      ->allow_extra_args(false);
  send->add_flag("--urgent", options->urgent, "Deliver now instead of at the next interval");
  send->add_option("--wait", options->wait_seconds, "Seconds to wait for the store (default 5)")
      ->check(CLI::Range(0.1, 3600.0));
  send->callback([&chosen, options] {
    chosen = [options](Session& session) { return send_event(session, *options); };
  });
}

}  // namespace telemetryd::ctl
