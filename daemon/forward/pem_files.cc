#include "forward/pem_files.h"

#include <ctime>
#include <string_view>
#include <sys/stat.h>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/io.h"
#include "base/log.h"

namespace telemetryd::forward {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

struct FreeInfos {
  void operator()(STACK_OF(X509_INFO) * infos) const {
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
  }
};

using Infos = std::unique_ptr<STACK_OF(X509_INFO), FreeInfos>;

// Nobody is there to type one, and OpenSSL would ask the terminal.
int no_password(char*, int, int, void*) {
  return 0;
}

Bio bio_of(std::string_view text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

Error bad(std::string_view key, const std::filesystem::path& file, std::string_view what) {
  return Error(ErrorCode::kInvalidArgument,
               std::string(key) + ": " + file.native() + ": " + std::string(what));
}

Result<std::string> read_pem(std::string_view key, const std::filesystem::path& file) {
  if (file.empty()) return std::string();
  auto text = read_file(file, PemFiles::kBytesMax);
  if (!text) return fail(text.error().with_context(std::string(key)));
  return text;
}

// The certificates of a whole text; nothing when it holds none, or only a part of one.
Infos certificates_of(std::string_view text) {
  Infos infos(PEM_X509_INFO_read_bio(bio_of(text).get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  if (!infos || sk_X509_INFO_num(infos.get()) == 0) return nullptr;
  return sk_X509_INFO_value(infos.get(), 0)->x509 != nullptr ? std::move(infos) : nullptr;
}

std::int64_t expiry_of(const X509* certificate) {
  std::tm when{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1) return 0;
  return timegm(&when);
}

Result<void> check_authorities(const Pem& pem, const PemPaths& paths) {
  if (paths.ca_file.empty() || certificates_of(pem.authorities)) return {};
  return fail(bad("ca_file", paths.ca_file, "holds no whole certificate in PEM"));
}

// Looks at the pair as the handshake will.
Result<void> check_pair(Pem& pem, const PemPaths& paths) {
  if (paths.client_cert_file.empty() || paths.client_key_file.empty()) return {};
  const Infos chain = certificates_of(pem.certificate);
  if (!chain) {
    return fail(
        bad("client_cert_file", paths.client_cert_file, "holds no whole certificate in PEM"));
  }
  const Key key(
      PEM_read_bio_PrivateKey(bio_of(pem.key.text()).get(), nullptr, no_password, nullptr),
      EVP_PKEY_free);
  X509* const certificate = sk_X509_INFO_value(chain.get(), 0)->x509;
  const bool fits = key && X509_check_private_key(certificate, key.get()) == 1;
  ERR_clear_error();
  if (!key) {
    return fail(bad("client_key_file",
                    paths.client_key_file,
                    "holds no key in PEM that can be read without a password"));
  }
  if (!fits) {
    return fail(bad("client_key_file",
                    paths.client_key_file,
                    "is not the key of " + paths.client_cert_file.native()));
  }
  pem.expires_s = expiry_of(certificate);
  return {};
}

Result<std::shared_ptr<const Pem>> read_set(const PemPaths& paths) {
  auto pem = std::make_shared<Pem>();
  TELEMETRYD_ASSIGN(pem->authorities, read_pem("ca_file", paths.ca_file));
  TELEMETRYD_ASSIGN(pem->certificate, read_pem("client_cert_file", paths.client_cert_file));
  TELEMETRYD_ASSIGN(std::string key, read_pem("client_key_file", paths.client_key_file));
  pem->key = Secret(std::move(key));
  TELEMETRYD_TRY(check_authorities(*pem, paths));
  TELEMETRYD_TRY(check_pair(*pem, paths));
  return std::shared_ptr<const Pem>(std::move(pem));
}

}  // namespace

std::array<PemFiles::Stamp, 3> PemFiles::stamps_of(const PemPaths& paths) {
  const auto stamp_of = [](const std::filesystem::path& file) -> Stamp {
    struct stat info{};
    if (file.empty() || ::stat(file.c_str(), &info) != 0) return {};
    constexpr std::int64_t kNanos = 1'000'000'000;
    return {static_cast<std::int64_t>(info.st_dev),
            static_cast<std::int64_t>(info.st_ino),
            info.st_size,
            info.st_mtim.tv_sec * kNanos + info.st_mtim.tv_nsec,
            info.st_ctim.tv_sec * kNanos + info.st_ctim.tv_nsec};
  };
  return {
      stamp_of(paths.ca_file), stamp_of(paths.client_cert_file), stamp_of(paths.client_key_file)};
}

Result<std::shared_ptr<const Pem>> PemFiles::load(const PemPaths& paths) {
  if (sets_.size() >= kSetsMax && !sets_.contains(paths)) sets_.clear();
  Set& set = sets_[paths];
  // Before reading: what is written in between is another state and read next time.
  const auto stamps = stamps_of(paths);
  if (set.good && set.stamps == stamps) return set.good;
  auto read = read_set(paths);
  set.stamps = stamps;
  if (read) return set.good = *read;
  if (!set.good) return fail(read.error());
  log::warn("certificate_not_renewed",
            {{"cause", read.error().message()}, {"note", "the last good one stays in use"}});
  return set.good;
}

}  // namespace telemetryd::forward
