#include "identity/identity.h"

#include <fstream>

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace telemetryd::identity {
namespace {

constexpr std::string_view kUid = "0123456789abcdef0123456789abcdef";
constexpr std::string_view kMytoolId =
    "0e5455e72b847158cea376ff72bedeb1be2f180e97ffff7f1de39ee5b5081c8e";

class Derive : public testing::Test {
 protected:
  Derived from(std::string_view content, Scheme scheme = Scheme::kSaltThenUid) {
    std::ofstream(folder_ / "uid") << content;
    return derive(scheme, "mytool", folder_ / "uid");
  }

  test::TempDir folder_;
};

TEST(Hash, IsTheSeedsVector) {
  EXPECT_EQ(hash(Scheme::kSaltThenUid, "mytool", kUid), kMytoolId);
}

TEST(Hash, TelemetryKitIsTheSeedsVector) {
  EXPECT_EQ(hash(Scheme::kTelemetryKit, "any", kUid),
            "client_bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61");
}

TEST(Hash, DiffersPerApp) {
  EXPECT_NE(hash(Scheme::kSaltThenUid, "a", kUid), hash(Scheme::kSaltThenUid, "b", kUid));
}

TEST_F(Derive, TrimsTheFile) {
  const Derived derived = from(" \t" + std::string(kUid) + "\r\n");
  EXPECT_EQ(derived.machine_id, kMytoolId);
  EXPECT_EQ(derived.source, "machine-id");
}

TEST_F(Derive, IsTheSameEachTime) {
  EXPECT_EQ(from(kUid).machine_id, from(kUid).machine_id);
}

TEST_F(Derive, APlaceholderGivesARandomId) {
  for (const char* placeholder : {"",
                                  "\n",
                                  "uninitialized\n",
                                  "00000000000000000000000000000000",
                                  "00000000-0000-0000-0000-000000000000",
                                  "ffffffffffffffffffffffffffffffff",
                                  "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
                                  "0123456789abcdef",
                                  "not a machine id, surely not one"}) {
    const Derived first = from(placeholder);
    const Derived second = from(placeholder);
    EXPECT_EQ(first.source.substr(0, 8), "random: ") << placeholder;
    EXPECT_EQ(first.machine_id.size(), 64u) << placeholder;
    EXPECT_NE(first.machine_id, second.machine_id) << placeholder;
  }
}

TEST_F(Derive, AMissingFileGivesARandomId) {
  const Derived derived = derive(Scheme::kSaltThenUid, "mytool", folder_ / "absent");
  EXPECT_EQ(derived.source.substr(0, 8), "random: ");
  EXPECT_NE(derived.source.find("absent"), std::string::npos);
}

TEST_F(Derive, ATooLongFileGivesARandomId) {
  EXPECT_EQ(from(std::string(300, 'a')).source.substr(0, 8), "random: ");
}

TEST_F(Derive, TheReasonShowsNothingOfTheContent) {
  EXPECT_EQ(from("deadbeefdeadbeef").source.find("deadbeef"), std::string::npos);
}

TEST_F(Derive, ARandomIdHasTheShapeOfItsScheme) {
  const Derived derived = from("", Scheme::kTelemetryKit);
  EXPECT_EQ(derived.machine_id.substr(0, 7), "client_");
  EXPECT_EQ(derived.machine_id.size(), 71u);
}

}  // namespace
}  // namespace telemetryd::identity
