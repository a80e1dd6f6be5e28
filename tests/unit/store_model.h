// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A random workload on a store, and what it must hold, kept in memory. The same seed does the same calls.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "ckpt/store.h"

namespace ckpt {

struct ModelCheckpoint {
  std::vector<Object> objects;
  std::vector<std::vector<std::uint8_t>> contents;
  std::string name;
  std::vector<std::string> pins;
};

using ModelMachine = std::map<std::uint64_t, ModelCheckpoint>;
using Model = std::map<std::string, ModelMachine>;

StoreOptions model_options();

class Workload {
public:
  Workload(Env& env, std::uint64_t seed) : env_(env), engine_(seed) {}

  // Opens the store and does `steps` random things. Stops at the first error and returns it.
  Status run(int steps);
  Status open();
  // Does one thing more, on the store as it is.
  Status step();
  // One whole epoch of one machine.
  Status commit_one();
  // Lets go of epochs and store.
  void close();
  Store* store() { return store_.get(); }

  const Model& model() const { return model_; }
  // What the operation that failed would have made of the model.
  const std::optional<Model>& attempted() const { return attempted_; }
  // After a restart: what was attempted had happened.
  void adopt(const Model& model) { model_ = model; }

private:
  struct Open {
    std::string machine;
    std::unique_ptr<EpochWriter> writer;
    ModelCheckpoint content;
    bool after_closed = false;
  };

  std::uint64_t dice(std::uint64_t sides) { return engine_() % sides; }
  std::string some_machine();
  Status begin(const std::string& machine, Open* closed);
  Status change(Open& epoch);
  Status commit(std::size_t index);
  Status attempt(const std::function<Status()>& operation, Model after);
  Status add_machine();
  Status remove_some();
  Status mark();
  Status forget();
  std::vector<std::uint8_t> some_bytes(std::size_t size);

  Env& env_;
  std::mt19937_64 engine_;
  std::unique_ptr<Store> store_;
  std::vector<Open> open_;
  Model model_;
  std::map<std::string, std::uint64_t> numbers_;
  std::optional<Model> attempted_;
};

// Empty when the store holds exactly the model; else what is wrong.
std::string difference(Store& store, const Model& model);

}  // namespace ckpt
