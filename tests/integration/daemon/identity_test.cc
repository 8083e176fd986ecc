#include <array>

#include <openssl/evp.h>

#include "base/bytes.h"
#include "session.h"

namespace telemetryd::test {
namespace {

constexpr const char* kUid = "7d1c0f5e9ab34826b1d5e0c94f7a2386";

// Every form in which the uid could leak.
std::vector<std::string> forms_of(const std::string& uid) {
  const std::string raw = *from_hex(uid);
  std::string upper = uid;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  std::vector<std::string> forms{uid, upper, raw, uuid_text(*parse_uuid(uid))};
  for (const std::string& bytes : {uid, raw}) {
    std::array<unsigned char, 128> base64{};
    const int size = EVP_EncodeBlock(base64.data(),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
    // Without the padding and the last block, which depend on what follows.
    forms.emplace_back(reinterpret_cast<const char*>(base64.data()),
                       static_cast<std::size_t>(size) - 4);
  }
  return forms;
}

std::string config_with(const DaemonHome& home) {
  return std::string(kOptOut) + "[identity]\nmachine_id_file = \"" +
         (home.path() / "uid").native() + "\"\n[[destination]]\nname = \"out\"\nkind = \"file\"\n" +
         "url = \"" + (home.path() / "out.jsonl").native() +
         "\"\n[[route]]\napp = \"*\"\ndestination = \"out\"\n";
}

void deliver(const DaemonHome& home, const DaemonProcess& daemon, const char* name) {
  App app(home, "tool");
  EXPECT_EQ(app.track(name), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  const HttpAnswer flushed = post(daemon, "/v1/flush", {{"deadline_ms", 20000}});
  EXPECT_EQ(flushed.status, 200) << flushed.body << daemon.log();
  EXPECT_EQ(json_of(flushed)["remaining_events"], 0);
}

std::string last_machine_id(const DaemonHome& home) {
  std::ifstream lines(home.path() / "out.jsonl");
  std::string last;
  for (std::string line; std::getline(lines, line);) last = line;
  const Json event = Json::parse(last, nullptr, false);
  return event.is_object() ? event.value("machine_id", "") : "";
}

TEST(Identity, TheRawUidIsNowhere) {
  const DaemonHome home;
  std::ofstream(home.path() / "uid") << kUid << "\n";
  home.configure(config_with(home) + "[daemon]\nlog_level = \"debug\"\n");
  std::string seen;
  {
    DaemonProcess daemon(home);
    deliver(home, daemon, "e");
    for (const char* target : {"/v1/status",
                               "/v1/events",
                               "/v1/ledger",
                               "/v1/config",
                               "/v1/consent",
                               "/v1/destinations"}) {
      seen += daemon.admin().get(target).body;
    }
    for (const auto& file : std::filesystem::recursive_directory_iterator(home.state_dir())) {
      if (file.is_regular_file()) seen += file_text(file.path());
    }
    EXPECT_EQ(daemon.terminate(), 0);
  }
  for (const auto& file : std::filesystem::recursive_directory_iterator(home.path())) {
    if (file.is_regular_file() && file.path().filename() != "uid") seen += file_text(file.path());
  }
  // The search sees what is there.
  EXPECT_EQ(last_machine_id(home).size(), 64u);
  EXPECT_NE(seen.find(last_machine_id(home)), std::string::npos);
  EXPECT_NE(seen.find("machine_id_derived"), std::string::npos);
  for (const std::string& form : forms_of(kUid)) {
    EXPECT_EQ(seen.find(form), std::string::npos) << to_hex(as_bytes(form));
  }
  // Nor is a hash of ours logged.
  EXPECT_EQ(file_text(home.log_file()).find(last_machine_id(home)), std::string::npos);
}

TEST(Identity, StaysWhenTheMachinesUidChanges) {
  const DaemonHome home;
  std::ofstream(home.path() / "uid") << kUid << "\n";
  home.configure(config_with(home));
  std::string first;
  {
    DaemonProcess daemon(home);
    deliver(home, daemon, "e1");
    first = last_machine_id(home);
    EXPECT_EQ(daemon.terminate(), 0);
  }
  std::ofstream(home.path() / "uid") << "00112233445566778899aabbccddeeff\n";
  const DaemonProcess daemon(home);
  deliver(home, daemon, "e2");
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(last_machine_id(home), first);
}

// The salted ID and the telemetry-kit one of kUid.
std::string kit_id() {
  const std::string text = std::string(kUid) + "telemetry-kit-v1";
  std::array<std::uint8_t, 32> digest{};
  EXPECT_EQ(EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr), 1);
  return "client_" + to_hex(digest);
}

TEST(Identity, FollowsTheDestinationsScheme) {
  const DaemonHome home;
  std::ofstream(home.path() / "uid") << kUid << "\n";
  const std::string salted = config_with(home);
  std::string kit = salted;
  kit.insert(kit.find("\n[[route]]"), "\nmachine_id_scheme = \"telemetry-kit\"");
  home.configure(salted);
  const DaemonProcess daemon(home);
  deliver(home, daemon, "e1");
  const std::string first = last_machine_id(home);
  EXPECT_EQ(first.size(), 64u);

  home.configure(kit);
  EXPECT_EQ(post(daemon, "/v1/reload", Json::object()).status, 200);
  deliver(home, daemon, "e2");
  EXPECT_EQ(last_machine_id(home), kit_id());

  // Derived once: another uid changes neither, and the way back gives the first.
  std::ofstream(home.path() / "uid") << "00112233445566778899aabbccddeeff\n";
  home.configure(salted);
  EXPECT_EQ(post(daemon, "/v1/reload", Json::object()).status, 200);
  deliver(home, daemon, "e3");
  EXPECT_EQ(last_machine_id(home), first);
}

TEST(Identity, ARandomIdStaysToo) {
  const DaemonHome home;
  std::ofstream(home.path() / "uid") << "uninitialized\n";
  home.configure(config_with(home));
  std::string first;
  {
    DaemonProcess daemon(home);
    deliver(home, daemon, "e1");
    first = last_machine_id(home);
    EXPECT_EQ(daemon.terminate(), 0);
  }
  const DaemonProcess daemon(home);
  deliver(home, daemon, "e2");
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(last_machine_id(home), first);
}

}  // namespace
}  // namespace telemetryd::test
