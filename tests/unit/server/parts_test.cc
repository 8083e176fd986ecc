// The parts of the server that need no socket.

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "server/batch.h"
#include "server/listen_socket.h"
#include "server/nonce_memory.h"
#include "server/schema.h"
#include "server/sealer.h"
#include "server/storage.h"
#include "server/storage_lock.h"
#include "support/temp_dir.h"
#include "unit/server/support.h"

namespace telemetryd::server {
namespace {

using test::make_batch;
namespace v1 = ::telemetry::v1;

// Computed with `openssl dgst -sha256 -hmac`, not with this code.
TEST(NativeSignature, IsThatOfOpenssl) {
  const std::string text = native_string_to_sign(
      "/v1/native/acme/tools", "1732003200", "550e8400-e29b-41d4-a716-446655440000", "");
  EXPECT_EQ(to_hex(hmac_sha256("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw==", text)),
            "b785681da3ca5b38e4c7e4b37b7f19820b9dbe32a20579bfab5dcc3760243730");
}

Bytes16 nonce(std::uint8_t number) {
  Bytes16 bytes{};
  bytes[0] = number;
  return bytes;
}

using Verdict = NonceMemory::Verdict;

TEST(NonceMemory, RemembersToTheLastSecondInWhichATimestampIsGood) {
  NonceMemory memory({});
  EXPECT_EQ(memory.remember(1, nonce(1), 1000).verdict, Verdict::kFresh);
  EXPECT_EQ(memory.remember(1, nonce(1), 1000 + kNonceLifeS).verdict, Verdict::kReplayed);
  EXPECT_EQ(memory.remember(1, nonce(1), 1001 + kNonceLifeS).verdict, Verdict::kFresh);
}

TEST(NonceMemory, KeepsTokensApart) {
  NonceMemory memory({});
  EXPECT_EQ(memory.remember(1, nonce(1), 1000).verdict, Verdict::kFresh);
  EXPECT_EQ(memory.remember(2, nonce(1), 1000).verdict, Verdict::kFresh);
}

TEST(NonceMemory, RefusesRatherThanForgets) {
  NonceMemory memory({.per_token_max = 2, .total_max = 100});
  EXPECT_EQ(memory.remember(1, nonce(1), 1000).verdict, Verdict::kFresh);
  EXPECT_EQ(memory.remember(1, nonce(2), 1010).verdict, Verdict::kFresh);
  const auto full = memory.remember(1, nonce(3), 1100);
  EXPECT_EQ(full.verdict, Verdict::kFull);
  EXPECT_EQ(full.retry_after_s, 1000 + kNonceLifeS + 1 - 1100);
  EXPECT_EQ(memory.remember(1, nonce(1), 1100).verdict, Verdict::kReplayed);
  EXPECT_EQ(memory.remember(1, nonce(3), 1100 + full.retry_after_s).verdict, Verdict::kFresh);
}

TEST(NonceMemory, OneTokenCannotFillItForAllBeyondTheTotal) {
  NonceMemory memory({.per_token_max = 10, .total_max = 2});
  EXPECT_EQ(memory.remember(1, nonce(1), 1000).verdict, Verdict::kFresh);
  EXPECT_EQ(memory.remember(2, nonce(2), 1000).verdict, Verdict::kFresh);
  EXPECT_EQ(memory.remember(3, nonce(3), 1000).verdict, Verdict::kFull);
  EXPECT_EQ(memory.remember(3, nonce(3), 1001 + kNonceLifeS).verdict, Verdict::kFresh);
}

TEST(Sealer, OpensOnlyWhatItSealedForThatToken) {
  const test::TempDir dir;
  const auto sealer = Sealer::open_or_create(dir / "db");
  ASSERT_TRUE(sealer);
  const Digest token = sha256("tk_1");
  std::string sealed = sealer->seal("the secret", token);
  EXPECT_EQ(sealed.find("secret"), std::string::npos);
  EXPECT_EQ(sealer->unseal(sealed, token)->text(), "the secret");
  EXPECT_EQ(sealer->unseal(sealed, sha256("tk_2")).error().code(), ErrorCode::kDataLoss);
  sealed.back() = static_cast<char>(sealed.back() ^ 1);
  EXPECT_EQ(sealer->unseal(sealed, token).error().code(), ErrorCode::kDataLoss);
  EXPECT_EQ(sealer->unseal("short", token).error().code(), ErrorCode::kDataLoss);
}

TEST(Sealer, TheKeyIsMadeOnceAndPrivate) {
  const test::TempDir dir;
  const auto first = Sealer::open_or_create(dir / "db");
  const auto second = Sealer::open_or_create(dir / "db");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->fingerprint(), second->fingerprint());
  struct stat status{};
  ASSERT_EQ(::stat(Sealer::key_path(dir / "db").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::chmod(Sealer::key_path(dir / "db").c_str(), 0644), 0);
  EXPECT_EQ(Sealer::open(dir / "db").error().code(), ErrorCode::kPermissionDenied);
}

TEST(Storage, AnotherKeyIsRefusedAtOnce) {
  const test::TempDir dir;
  ASSERT_TRUE(open_storage(dir / "db", StorageMode::kCreate));
  ASSERT_TRUE(replace_file(Sealer::key_path(dir / "db"), std::string(64, '0') + "\n", 0600));
  EXPECT_EQ(open_storage(dir / "db", StorageMode::kRead).error().code(),
            ErrorCode::kFailedPrecondition);
}

TEST(Schema, AFileOfAnotherProgramIsRefusedAndUntouched) {
  const test::TempDir dir;
  {
    auto other = Database::open(dir / "db", Database::Mode::kCreate);
    ASSERT_TRUE(other && other->execute("CREATE TABLE theirs (x)"));
  }
  const auto opened = open_storage(dir / "db", StorageMode::kCreate);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::kFailedPrecondition);
  auto other = Database::open(dir / "db", Database::Mode::kReadOnly);
  EXPECT_EQ(other->query_int("SELECT count(*) FROM sqlite_schema"), 1);
}

TEST(Schema, ANewerVersionIsRefused) {
  const test::TempDir dir;
  {
    auto storage = open_storage(dir / "db", StorageMode::kCreate);
    ASSERT_TRUE(storage && storage->database.execute("PRAGMA user_version=99"));
  }
  const auto opened = open_storage(dir / "db", StorageMode::kCreate);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("99"), std::string::npos);
}

TEST(Schema, MigratingTwiceChangesNothing) {
  const test::TempDir dir;
  auto database = Database::open(dir / "db", Database::Mode::kCreate);
  ASSERT_TRUE(database);
  EXPECT_EQ(migrate(*database), 0);
  EXPECT_EQ(migrate(*database), kSchemaVersion);
}

TEST(StorageLock, OneServerPerDatabase) {
  const test::TempDir dir;
  const auto first = StorageLock::take(dir / "db", StorageLock::Kind::kServe);
  ASSERT_TRUE(first);
  EXPECT_FALSE(StorageLock::take(dir / "db", StorageLock::Kind::kServe));
  EXPECT_TRUE(StorageLock::take(dir / "db", StorageLock::Kind::kWrite));
}

TEST(Batch, AnEmptyBodyIsABatchOfNone) {
  const auto decoded = decode_batch("", 0);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->total, 0u);
}

TEST(Batch, OneBadEventCostsItself) {
  v1::NativeBatch batch = make_batch(1, 4);
  batch.mutable_groups(0)->mutable_events(1)->set_id("short");
  batch.mutable_groups(0)->mutable_events(2)->clear_name();
  const std::string body = batch.SerializeAsString();
  const auto decoded = decode_batch(body, 4);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->events.size(), 2u);
  ASSERT_EQ(decoded->rejected.size(), 2u);
  EXPECT_EQ(decoded->rejected[0].index, 1u);
  EXPECT_EQ(decoded->rejected[1].index, 2u);
  EXPECT_EQ(decoded->rejected[0].message, "the ID is not 16 bytes");
}

TEST(Batch, IndexesCountOverAllGroups) {
  v1::NativeBatch batch = make_batch(1, 3);
  *batch.add_groups() = make_batch(4, 1).groups(0);
  batch.mutable_groups(1)->mutable_events(0)->clear_time_unix_nano();
  batch.set_batch_size(4);
  const std::string body = batch.SerializeAsString();
  const auto decoded = decode_batch(body, 4);
  ASSERT_TRUE(decoded);
  ASSERT_EQ(decoded->rejected.size(), 1u);
  EXPECT_EQ(decoded->rejected[0].index, 3u);
}

TEST(Batch, EveryClassAndUrgencyIsTaken) {
  v1::NativeBatch batch = make_batch(1, 1);
  batch.mutable_groups(0)->mutable_events(0)->set_urgency(v1::URGENCY_URGENT);
  batch.mutable_groups(0)->mutable_events(0)->set_persistence_class(v1::PERSISTENCE_CLASS_CRITICAL);
  const std::string body = batch.SerializeAsString();
  EXPECT_EQ(decode_batch(body, 1)->events.size(), 1u);
}

TEST(Batch, EveryTruncationIsAnAnswer) {
  const std::string body = make_batch(1, 3).SerializeAsString();
  for (std::size_t size = 1; size < body.size(); ++size) {
    const std::string cut = body.substr(0, size);
    const auto decoded = decode_batch(cut, 3);
    EXPECT_TRUE(!decoded || decoded->rejected.size() + decoded->events.size() == 3) << size;
    if (!decoded) {
      EXPECT_EQ(decoded.error().status, 400u) << size;
    }
  }
}

TEST(Listen, TakesAddressesAndNothingElse) {
  EXPECT_TRUE(parse_listen("127.0.0.1:0")->loopback);
  EXPECT_TRUE(parse_listen("[::1]:80")->loopback);
  EXPECT_TRUE(parse_listen("localhost:80")->loopback);
  EXPECT_FALSE(parse_listen("0.0.0.0:80")->loopback);
  EXPECT_FALSE(parse_listen("[::]:80")->loopback);
  for (const char* wrong :
       {"", "80", "host.example:80", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "127.0.0.1:8x"}) {
    EXPECT_FALSE(parse_listen(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace telemetryd::server
