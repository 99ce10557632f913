#include "runtime/driver/tensor_map.h"

#include "runtime/driver/driver.h"

namespace dgrt {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= 64);

struct ElementType {
  CUtensorMapDataType type;
  uint32_t bytes;
};

// {.., 0} for a type that tensor maps of dgrt do not hold.
ElementType element_type(dgrt_dtype dtype) {
  switch (dtype) {
    case DGRT_BF16:
      return {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2};
    case DGRT_FP16:
      return {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2};
    case DGRT_FP32:
      return {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4};
    case DGRT_E4M3:
      return {CU_TENSOR_MAP_DATA_TYPE_UINT8, 1};
    default:
      return {CU_TENSOR_MAP_DATA_TYPE_UINT8, 0};
  }
}

CUtensorMapSwizzle encode_swizzle(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::none:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
    case Swizzle::b32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    case Swizzle::b64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::b128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace

Status encode_tensor_map(const Driver& driver, const TmaMatrix& matrix, TensorMap* map) {
  const ElementType element = element_type(matrix.dtype);
  if (element.bytes == 0)
    return error(DGRT_INTERNAL, "tensor map: dtype={} has no tensor map type", matrix.dtype);
  // The driver's order: contiguous axis first; the innermost stride is implied.
  // The stride of a single group or page is never used; the driver wants one all the same.
  const uint64_t group_stride = matrix.groups > 1 ? matrix.group_stride : matrix.row_stride;
  const uint64_t page_stride = matrix.pages > 1 ? matrix.page_stride : matrix.row_stride;
  const uint64_t dims[] = {matrix.cols, matrix.rows, matrix.groups, matrix.pages};
  const uint64_t strides_bytes[] = {matrix.row_stride * element.bytes, group_stride * element.bytes,
                                    page_stride * element.bytes};
  const uint32_t box[] = {matrix.box_cols, matrix.box_rows, matrix.box_groups, matrix.box_pages};
  const uint32_t element_strides[] = {1, 1, 1, 1};
  const uint32_t dimensions = matrix.groups == 0 ? 2 : matrix.pages == 0 ? 3 : 4;
  const CUresult result = driver.cuTensorMapEncodeTiled(
      reinterpret_cast<CUtensorMap*>(map), element.type, dimensions,
      const_cast<void*>(matrix.base), dims, strides_bytes, box, element_strides,
      CU_TENSOR_MAP_INTERLEAVE_NONE, encode_swizzle(matrix.swizzle),
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) [[likely]]
    return ok();
  const Status status = cu_status(driver, result, "cuTensorMapEncodeTiled");
  return error(
      DGRT_DRIVER_ERROR,
      "{}: base={}, rows={}, cols={}, row_stride={}, {} bytes each, box {}x{}, swizzle {}, "
      "groups={}, group_stride={}, pages={}, page_stride={}",
      status.message(), fmt::ptr(matrix.base), matrix.rows, matrix.cols, matrix.row_stride,
      element.bytes, matrix.box_rows, matrix.box_cols, static_cast<int>(matrix.swizzle),
      matrix.groups, matrix.group_stride, matrix.pages, matrix.page_stride);
}

}  // namespace dgrt
