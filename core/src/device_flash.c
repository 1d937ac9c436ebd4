/* device_flash.c - adapters to and from flash. */
#include "device.h"

s2_status s2_device_save(s2_device *device, const s2_flash *flash) {
    const s2_status status = s2_device_adapters_write(device, device->room, device->room_bytes);
    return status == S2_OK ? s2_flash_save(flash, device->room, s2_device_adapters_bytes(device))
                           : status;
}

s2_status s2_device_restore(s2_device *device, const s2_flash *flash, int *is_there) {
    size_t n_bytes;
    const s2_status status = s2_flash_load(flash, device->room, device->room_bytes, &n_bytes);
    *is_there = n_bytes > 0;
    if (status == S2_NO_ROOM) { /* none of this network's are that large */
        return S2_BAD_MODEL;
    }
    return status == S2_OK && *is_there ? s2_device_adapters_read(device, device->room, n_bytes)
                                        : status;
}
