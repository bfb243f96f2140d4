// The loop that a C++ user writes over Pinocchio: one configuration after another, double precision.
//
//   pinocchio_loop CHAIN BATCH CHECK
//
// CHAIN is a text file: the number of joints, then for each joint and for the tip 9 numbers of a rotation
// (row by row) and 3 of a position, every joint turning about its own z axis. CHECK holds rows of
// configurations, each followed by the 6 x N entries of its Jacobian, against which it is compared at the
// start. It speaks the protocol of third_party/chapter_loop.py: a line that says it is ready, then for each
// line with a number of Jacobians one line of JSON with those made, and their seconds.
//
// Per sample: joint Jacobians, then the tip's in axes of the base, then 6 N doubles stored.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <pinocchio/fwd.hpp>
#include <pinocchio/multibody.hpp>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/frames.hpp>

namespace pin = pinocchio;

static pin::SE3 placement(std::istream& in) {
  Eigen::Matrix3d rotation;
  Eigen::Vector3d position;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) in >> rotation(i, j);
  for (int i = 0; i < 3; ++i) in >> position(i);
  return pin::SE3(rotation, position);
}

static double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::ifstream file(argv[1]);
  int joints = 0;
  file >> joints;
  pin::Model model;
  pin::JointIndex parent = 0;
  for (int i = 0; i < joints; ++i)
    parent = model.addJoint(parent, pin::JointModelRZ(), placement(file), "joint" + std::to_string(i));
  const auto tip = model.addFrame(pin::Frame("tip", parent, 0, placement(file), pin::OP_FRAME));
  pin::Data data(model);
  Eigen::Matrix<double, 6, Eigen::Dynamic> jacobian(6, joints);
  Eigen::VectorXd q(joints);

  auto compute = [&](const double* from, double* to) {
    q = Eigen::Map<const Eigen::VectorXd>(from, joints);
    pin::computeJointJacobians(model, data, q);
    pin::getFrameJacobian(model, data, tip, pin::LOCAL_WORLD_ALIGNED, jacobian);
    Eigen::Map<Eigen::Matrix<double, 6, Eigen::Dynamic, Eigen::RowMajor>>(to, 6, joints) = jacobian;
  };

  const long batch = std::atol(argv[2]);
  std::vector<double> inputs(batch * joints), outputs(batch * joints * 6), wanted(6 * joints), got(6 * joints);
  std::ifstream check(argv[3]);
  double error = 0, value;
  std::vector<double> row(joints);
  while (check >> row[0]) {
    for (int i = 1; i < joints; ++i) check >> row[i];
    compute(row.data(), got.data());
    for (int i = 0; i < 6 * joints; ++i) {
      check >> value;
      error = std::max(error, std::abs(value - got[i]));
    }
  }
  std::mt19937 generator(0);
  std::uniform_real_distribution<double> angle(-1.5, 1.5);
  for (auto& x : inputs) x = angle(generator);
  std::printf("{\"ready\": \"pinocchio C++\", \"version\": \"%s\", \"error\": %.3e}\n", PINOCCHIO_VERSION, error);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const long turns = (std::atol(line.c_str()) + batch - 1) / batch;
    const auto wall = std::chrono::steady_clock::now();
    const double processor = processor_seconds();
    for (long turn = 0; turn < turns; ++turn)
      for (long k = 0; k < batch; ++k) compute(&inputs[k * joints], &outputs[k * joints * 6]);
    const double cpu = processor_seconds() - processor;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
    std::printf("{\"steps\": %ld, \"wall\": %.9f, \"cpu\": %.9f}\n", turns * batch, seconds, cpu);
    std::fflush(stdout);
  }
}
