use super::*;

/// Check that each device is reported, and that `max` is the largest number.
#[test]
fn each_device_is_reported() {
    let content = b"mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n\n";
    let usages: Vec<_> = parse(content).collect();
    assert_eq!(usages[0], Usage { device: "mlx4_0", handles: 2, objects: 2000 });
    assert_eq!(usages[1], Usage { device: "ocrdma1", handles: 3, objects: u32::MAX });
    assert_eq!(usages.len(), 2);
}
