// The C interface: check, call, translate.

#include <string.h>

#include "telemetry/telemetry.h"
#include "telemetry_core/client.h"

using telemetryd::client::Client;

namespace {

Client* self(telemetry_client_t* client) {
  return reinterpret_cast<Client*>(client);
}

// The caller's struct may be older and shorter than ours, or newer and longer.
telemetry_status_t hand_out(const telemetry_stats_t& stats, telemetry_stats_t* out) {
  const size_t size = out->size;
  if (size < sizeof(size_t)) return TELEMETRY_INVALID;
  memcpy(out, &stats, size < sizeof stats ? size : sizeof stats);
  out->size = size;
  return TELEMETRY_OK;
}

}  // namespace

telemetry_status_t telemetry_client_open(const telemetry_options_t* options,
                                         telemetry_client_t** client) {
  if (client == nullptr) return TELEMETRY_INVALID;
  *client = nullptr;
  if (options == nullptr) return TELEMETRY_INVALID;
  Client* opened = nullptr;
  const telemetry_status_t status = Client::open(*options, &opened);
  *client = reinterpret_cast<telemetry_client_t*>(opened);
  return status;
}

telemetry_status_t telemetry_client_close(telemetry_client_t* client,
                                          uint32_t deadline_ms,
                                          telemetry_stats_t* final_stats) {
  telemetry_stats_t stats{};
  const telemetry_status_t status =
      client == nullptr ? TELEMETRY_OK : self(client)->close(deadline_ms, &stats);
  if (final_stats != nullptr) hand_out(stats, final_stats);
  return status;
}

telemetry_status_t telemetry_track(telemetry_client_t* client, const telemetry_event_t* event) {
  if (client == nullptr) return TELEMETRY_DISABLED;
  if (event == nullptr) return TELEMETRY_INVALID;
  return self(client)->track(*event);
}

telemetry_status_t telemetry_send(telemetry_client_t* client,
                                  const telemetry_event_t* event,
                                  uint32_t deadline_ms) {
  if (client == nullptr) return TELEMETRY_DISABLED;
  if (event == nullptr) return TELEMETRY_INVALID;
  return self(client)->send(*event, deadline_ms);
}

telemetry_status_t telemetry_flush(telemetry_client_t* client, uint32_t deadline_ms) {
  return client == nullptr ? TELEMETRY_OK : self(client)->flush(deadline_ms);
}

telemetry_status_t telemetry_client_stats(telemetry_client_t* client, telemetry_stats_t* stats) {
  if (stats == nullptr) return TELEMETRY_INVALID;
  telemetry_stats_t now{};
  if (client != nullptr) self(client)->stats(now);
  return hand_out(now, stats);
}

telemetry_mode_t telemetry_client_mode(telemetry_client_t* client, char* rule, size_t rule_size) {
  if (client != nullptr) return self(client)->mode(rule, rule_size);
  if (rule != nullptr && rule_size > 0) *rule = '\0';
  return TELEMETRY_MODE_OFF;
}

const char* telemetry_version(void) {
  return TELEMETRY_VERSION_TEXT;
}
