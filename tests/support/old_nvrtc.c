/* A shared library that looks like an NVRTC that is too old: every entry point, version 11.8. */
int nvrtcVersion(int* major, int* minor) { return *major = 11, *minor = 8, 0; }
const char* nvrtcGetErrorString(int result) { return result ? "error" : "none"; }
int nvrtcCreateProgram(void) { return 1; }
int nvrtcDestroyProgram(void) { return 1; }
int nvrtcCompileProgram(void) { return 1; }
int nvrtcGetCUBINSize(void) { return 1; }
int nvrtcGetCUBIN(void) { return 1; }
int nvrtcGetProgramLogSize(void) { return 1; }
int nvrtcGetProgramLog(void) { return 1; }
