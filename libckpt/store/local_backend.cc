// SPDX-License-Identifier: LGPL-2.1-or-later
#include "store/local_backend.h"

#include <cerrno>

namespace ckpt {

namespace {

std::string folder_of(const std::string& path) { return path.substr(0, path.find_last_of('/')); }

class LocalBlob : public Blob {
public:
  // `folder_to_sync`: not empty for a new file, whose name is not durable before its directory is.
  LocalBlob(Env& env, std::unique_ptr<File> file, std::uint64_t end, std::string folder_to_sync)
      : env_(env),
        file_(std::move(file)),
        end_(end),
        folder_(std::move(folder_to_sync)),
        folder_unsynced_(!folder_.empty()) {}

  Result<std::size_t> read(std::uint64_t offset, std::span<std::uint8_t> out) override {
    return file_->read_at(offset, out);
  }
  Status append(ByteView data) override {
    CKPT_TRY(file_->write_at(end_, data));
    end_ += data.size();
    return {};
  }
  Status sync() override {
    CKPT_TRY(file_->sync());
    return sync_folder();
  }
  Status append_synced(ByteView data) override {
    CKPT_TRY(file_->write_and_sync(end_, data));
    end_ += data.size();
    return sync_folder();
  }
  Status cut(std::uint64_t size) override {
    CKPT_TRY(file_->truncate(size));
    end_ = size;
    return {};
  }
  Result<std::uint64_t> size() override { return file_->size(); }

private:
  Status sync_folder() {
    if (!folder_unsynced_) return {};
    CKPT_TRY(env_.sync_directory(folder_));
    folder_unsynced_ = false;
    return {};
  }

  Env& env_;
  std::unique_ptr<File> file_;
  std::uint64_t end_;
  const std::string folder_;
  bool folder_unsynced_;
};

class LocalBackend : public Backend {
public:
  LocalBackend(Env& env, std::string path) : env_(env), path_(std::move(path)) {}

  Result<std::unique_ptr<Blob>> open(const std::string& name) override {
    CKPT_ASSIGN(auto file, env_.open(full(name), Env::Mode::read));
    return std::unique_ptr<Blob>(std::make_unique<LocalBlob>(env_, std::move(file), 0, ""));
  }

  Result<std::unique_ptr<Blob>> open_for_append(const std::string& name) override {
    CKPT_ASSIGN(auto file, env_.open(full(name), Env::Mode::write));
    CKPT_ASSIGN(std::uint64_t end, file->size());
    return std::unique_ptr<Blob>(std::make_unique<LocalBlob>(env_, std::move(file), end, folder_of(full(name))));
  }

  Result<std::unique_ptr<Blob>> create(const std::string& name) override {
    auto file = env_.open(full(name), Env::Mode::create_new);
    if (!file && file.error().code == Code::exists) {
      CKPT_TRY(env_.remove(full(name)));
      file = env_.open(full(name), Env::Mode::create_new);
    }
    if (!file) return file.error();
    return std::unique_ptr<Blob>(std::make_unique<LocalBlob>(env_, file.take(), 0, folder_of(full(name))));
  }

  Status remove(const std::string& name) override { return env_.remove(full(name)); }

  Status replace(const std::string& from, const std::string& to, bool& not_done) override {
    not_done = true;
    CKPT_TRY(env_.rename(full(from), full(to)));
    not_done = false;
    return env_.sync_directory(folder_of(full(to)));
  }

  Result<std::vector<std::string>> list(const std::string& folder) override {
    return env_.list(folder.empty() ? path_ : full(folder));
  }

  Result<std::uint64_t> free_bytes() override { return env_.free_bytes(path_); }

private:
  std::string full(const std::string& name) const { return path_ + "/" + name; }

  Env& env_;
  std::string path_;
};

}  // namespace

std::unique_ptr<Backend> make_local_backend(Env& env, std::string path) {
  return std::make_unique<LocalBackend>(env, std::move(path));
}

bool is_bad_place(const Error& error) {
  bool want = error.sys_errno == EMFILE || error.sys_errno == ENFILE || error.sys_errno == ENOMEM;
  return error.code == Code::io && !want;
}

Result<Bytes> read_exactly(Blob& blob, std::uint64_t offset, std::size_t length) {
  Bytes bytes(length);
  CKPT_TRY(read_exactly(blob, offset, bytes));
  return bytes;
}

Status read_exactly(Blob& blob, std::uint64_t offset, std::span<std::uint8_t> out) {
  CKPT_ASSIGN(std::size_t n, blob.read(offset, out));
  if (n != out.size()) return make_error(Code::corrupt, "offset " + std::to_string(offset) + ": cut short");
  return {};
}

}  // namespace ckpt
