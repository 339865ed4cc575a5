package confine

import "kernel.org/pub/linux/libs/security/libcap/cap"

// What the programs need. Whoever starts them may take the rest from them, as init
// and the units for systemd do: all but SETPCAP, which they give up themselves.

// Engine is for interfaces and raw sockets; programs of XDP; memory that stays in
// place for devices.
var Engine = []cap.Value{cap.NET_ADMIN, cap.NET_RAW, cap.BPF, cap.IPC_LOCK, cap.SYS_NICE, cap.SYS_RESOURCE, cap.SYS_RAWIO}

// Control is what vitad begins with, for ports below 1024. It keeps none.
var Control = []cap.Value{cap.NET_BIND_SERVICE}
