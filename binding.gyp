{
  "targets": [
    {
      "target_name": "tacotune",
      "sources": [
        "kernels/addon/addon.cc",
        "kernels/addon/gpu.cc",
        "kernels/addon/memory.cc",
        "kernels/lab/harness/cases.cc",
        "kernels/lab/harness/trial.cc",
        "<!@(node -p \"['kernels/reference','kernels/cpu','kernels/cuda'].flatMap(d => fs.readdirSync(d).filter(f => f.endsWith('.cc')).map(f => d + '/' + f)).join(' ')\")"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "."],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++20"],
      "cflags_cc": ["-std=gnu++17", "-O3", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra"],
      "ldflags": ["-pthread"],
      "libraries": ["-ldl"],
      "xcode_settings": {
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "CLANG_CXX_LANGUAGE_STANDARD": "gnu++17",
        "GCC_OPTIMIZATION_LEVEL": "3"
      }
    }
  ]
}
