#!/usr/bin/env python3
"""NetworkManager, ModemManager or UPower as far as telemetryd asks them, on the bus of the environment.

usage: bus_services.py network|modem|power PROPERTIES

Owns the real service's name. PROPERTIES and each line on standard input are a JSON object; those of the
latter are told to the bus, too. What was done is said on standard output. Ends with standard input.
"""

import json
import os
import sys

import dbus
import dbus.bus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

PROPERTIES = "org.freedesktop.DBus.Properties"
TYPES = {"Metered": dbus.UInt32, "PrimaryConnectionType": dbus.String, "RegistrationState": dbus.UInt32,
         "OnBattery": dbus.Boolean, "Percentage": dbus.Double}


class Object(dbus.service.Object):
    def __init__(self, bus, path, interface, **properties):
        super().__init__(bus, path)
        self.interface, self.values = interface, {}
        self.put(properties)

    def put(self, properties):
        typed = {name: TYPES[name](value) for name, value in properties.items()}
        self.values.update(typed)
        return typed

    @dbus.service.method(PROPERTIES, in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        return self.values if interface == self.interface else {}

    @dbus.service.signal(PROPERTIES, signature="sa{sv}as")
    def PropertiesChanged(self, interface, changed, invalidated):
        pass


class Modems(dbus.service.Object):
    def __init__(self, bus, modem):
        super().__init__(bus, "/org/freedesktop/ModemManager1")
        self.modem = modem

    @dbus.service.method("org.freedesktop.DBus.ObjectManager", out_signature="a{oa{sa{sv}}}")
    def GetManagedObjects(self):
        path = dbus.ObjectPath("/org/freedesktop/ModemManager1/Modem/0")
        other = {"Manufacturer": dbus.String("x"), "Ports": dbus.Array([("wwan0", 2)], signature="(su)")}
        return {path: {"org.freedesktop.ModemManager1.Modem": other, self.modem.interface: self.modem.values}}


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(os.environ["DBUS_SYSTEM_BUS_ADDRESS"])
    if sys.argv[1] == "network":
        name = "org.freedesktop.NetworkManager"
        objects = [Object(bus, "/org/freedesktop/NetworkManager", name, Metered=4, PrimaryConnectionType="gsm")]
    elif sys.argv[1] == "modem":
        name = "org.freedesktop.ModemManager1"
        objects = [Object(bus, "/org/freedesktop/ModemManager1/Modem/0", name + ".Modem.Modem3gpp", RegistrationState=1)]
        Modems(bus, objects[0])
    else:
        name = "org.freedesktop.UPower"
        objects = [Object(bus, "/org/freedesktop/UPower", name, OnBattery=False),
                   Object(bus, "/org/freedesktop/UPower/devices/DisplayDevice", name + ".Device", Percentage=80.0)]
    loop = GLib.MainLoop()

    def put(properties):
        for key, value in json.loads(properties).items():
            owner = next(each for each in objects if key in each.values)
            yield owner, owner.put({key: value})

    def read(source, _):
        line = source.readline()
        if not line:
            loop.quit()
            return False
        for owner, changed in put(line):
            owner.PropertiesChanged(owner.interface, changed, [])
        print("done", flush=True)
        return True

    list(put(sys.argv[2]))

    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, read)
    # Kept: a name is given up with its object.
    owned = dbus.service.BusName(name, bus, do_not_queue=True)
    print(f"{owned.get_name()} is there", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
