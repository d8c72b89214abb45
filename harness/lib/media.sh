# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2154 # boot.sh sets $option_out
# Adds to QEMU's command line the drives whose media the tests change, all of
# them empty: a CD drive behind SATA and one behind SCSI, a floppy drive, and a
# USB bus to plug sticks into. The tests change media, and plug sticks in,
# through QEMU's monitor, which is connected to a port of the guest: QEMU is its own
# client here. Sourced: . "$HARNESS/lib/media.sh"

# Two media, which differ in every sector. The size suits a CD, a floppy and a
# stick.
for medium in a b; do
	[ -f "$OUT/medium-$medium" ] || yes "diskseq medium $medium" |
		head -c 1474560 >"$OUT/medium-$medium"
	set -- "$@" -blockdev "driver=raw,node-name=medium-$medium,read-only=on,file.driver=file,file.filename=$option_out/medium-$medium"
done

# No path of a file, for those of sockets may not be long.
set -- "$@" \
	-chardev "socket,id=qmp,server=on,wait=off,abstract=on,path=diskseq-$$" \
	-mon chardev=qmp,mode=control \
	-chardev "socket,id=guestqmp,abstract=on,path=diskseq-$$" \
	-device virtserialport,chardev=guestqmp,name=diskseq.qmp \
	-device ich9-ahci,id=ahci -device ide-cd,id=sata-cd,bus=ahci.0 \
	-device virtio-scsi-pci,id=scsi -device scsi-cd,id=scsi-cd,bus=scsi.0 \
	-device floppy,id=floppy,drive-type=144 \
	-device qemu-xhci,id=usb
