r"""The quadcopters behind `quadcopter_design.py`: what a design weighs, and how it flies.

Textbook physics of small rotorcraft, of many designs at once. Four rotors with two kinds of load,
front and rear, carry weight and drag. Constant geometric pitch is ideal twist, for which blade
elements of lift slope a and solidity s give the thrust of a rotor of tip speed u at inflow w,

.. math:: T = \tfrac14 \rho A s a (\theta u^2 - w u), \qquad
    v = \frac{T}{2 \rho A \sqrt{V_x^2 + (V_z + v)^2}}, \qquad w = V_z + \kappa v,

with Glauert's induced velocity v, and the power
:math:`P = T w + \tfrac18 \rho A s c_d u^3 (1 + 4.65 \mu^2)`: Leishman, Principles of Helicopter
Aerodynamics, sections 3.3, 2.14 and 5.4. Motors are Drela's first-order model (MIT, 2007): a
constant kv, a resistance and a friction torque, which scale with mass as in similar motors.
Batteries have an inner resistance and a rated current, and those with more of it store less.

A design has 16 numbers (`RANGES`; meters, kilograms, volts, hours), an outcome seven (`OUTCOMES`).
One that cannot hover has an outcome too: it flies for no time, nowhere, at no speed, and its power
and current are those that hovering would take.
"""

import numpy as np

RANGES = {
    "arm": (0.15, 0.45),  # from the center to a motor, m
    "angle": (0.6, 1.0),  # of the front arms from straight ahead, rad
    "body_length": (0.12, 0.35),  # m
    "body_width": (0.06, 0.2),  # m
    "body_height": (0.03, 0.12),  # m
    "legs": (0.03, 0.2),  # m
    "battery_x": (-0.1, 0.1),  # of its middle before the center, m
    "payload_x": (-0.05, 0.2),  # m
    "diameter": (0.15, 0.45),  # of propellers, m
    "pitch": (0.3, 0.8),  # advance in a turn over diameter
    "solidity": (0.06, 0.18),  # blade area over disk area
    "kv": (250, 1_200),  # turns per minute and volt
    "motor": (0.03, 0.2),  # kg each
    "voltage": (11, 30),  # nominal
    "capacity": (2, 12),  # Ah
    "discharge": (10, 60),  # rated current over capacity, 1/h
}
OUTCOMES = {  # their units
    "mass": "kg",
    "current": "A",  # at top speed
    "power": "W",  # in hover
    "hover": "min",
    "distance": "km",
    "speed": "m/s",
    "interferences": "",  # pairs of parts that are in each other's place
}
NOISE = 0.05  # of all outcomes but interferences, relative

AIR, GRAVITY = 1.225, 9.81
LIFT_SLOPE, STALL = 5.7, 0.15  # per rad; the largest thrust coefficient over solidity
INDUCED = 1.15  # inflow of real disks over that of ideal ones
MAX_SPEED = 80.0  # to look for the top speed below
PAYLOAD, ELECTRONICS = 0.3, 0.12  # kg
CAMERA = (0.07, 0.07, 0.07)  # length, width, height of the payload, m
BOARD = (0.06, 0.025)  # length and height of the electronics, m
SPECIFIC_ENERGY, PRICE_OF_CURRENT = 185.0, 0.6  # Wh/kg; what a unit of discharge costs of it
ENERGY_DENSITY, USABLE = 250e3, 0.9  # Wh/m³, the share of it that is flown
BATTERY_SHAPE = np.array([2.5, 1.3, 1.0])  # length to width to height
SAG = 0.11  # of the voltage at the rated current
SHELL, CARBON = 2.5, 1_600.0  # kg/m² of the body, kg/m³ of arms and legs
SLENDERNESS, WALL = 20.0, 1e-3  # arms over their diameter; m


def battery_size(d):
    """Mass ``(n,)`` and edges ``(3, n)``."""
    energy = d["voltage"] * d["capacity"]
    edge = (energy / ENERGY_DENSITY / BATTERY_SHAPE.prod()) ** (1 / 3)
    mass = energy / (SPECIFIC_ENERGY - PRICE_OF_CURRENT * d["discharge"])
    return mass, BATTERY_SHAPE[:, None] * edge


def motor_size(d):
    """Radius and height, of cylinders as high as half their width with 4 g/cm³."""
    radius = (d["motor"] / (np.pi * 4_000)) ** (1 / 3)
    return radius, radius


def tube_length(d):
    """What of the arms is outside of the body, ``(n,)``."""
    inside = np.minimum(
        d["body_length"] / 2 / np.cos(d["angle"]), d["body_width"] / 2 / np.sin(d["angle"])
    )
    return np.maximum(d["arm"] - inside, 0)


def weigh(d, payload=PAYLOAD, electronics=ELECTRONICS):
    """Mass, and how far before the center its middle is, ``(n,)`` each."""
    long, wide, high = d["body_length"], d["body_width"], d["body_height"]
    shell = 2 * SHELL * (long * wide + long * high + wide * high)
    section = np.pi * WALL * d["arm"] / SLENDERNESS
    tubes = 4 * CARBON * section * (tube_length(d) + d["legs"])
    ten_inches = d["diameter"] / 0.254
    propellers = 4 * 0.012 * ten_inches**2.5 * d["solidity"] / 0.1  # 12 g each
    motors = 4 * d["motor"] + 4 * (0.008 + 0.1 * d["motor"])  # and their controllers
    battery = battery_size(d)[0]
    mass = shell + tubes + propellers + motors + battery + payload + electronics
    moment = battery * d["battery_x"] + payload * d["payload_x"] - electronics * board_x(d)
    return mass, moment / mass


def board_x(d):
    """The electronics are as far behind the center."""
    return (d["body_length"] - BOARD[0]) / 2


def interferences(d):
    """How many pairs of parts are in each other's place, ``(n,)``."""
    x, y = d["arm"] * np.cos(d["angle"]), d["arm"] * np.sin(d["angle"])
    radius, height = motor_size(d)
    aside = np.maximum(x - d["body_length"] / 2, 0), np.maximum(y - d["body_width"] / 2, 0)
    to_body = np.hypot(*aside)
    above = d["arm"] / SLENDERNESS / 2 + height  # where propellers turn, over half the body
    _, (long, wide, high) = battery_size(d)
    free = d["battery_x"] - long / 2 + d["body_length"] / 2 - BOARD[0]  # before the electronics
    stacked = high + BOARD[1] <= d["body_height"]
    return (
        2.0 * (2 * y < d["diameter"])  # propellers left and right
        + 2 * (2 * x < d["diameter"])  # front and rear
        + 4 * ((to_body < d["diameter"] / 2) & (d["body_height"] / 2 > above))  # and the body
        + 4 * (to_body < radius)  # motors and the body
        + (long / 2 + np.abs(d["battery_x"]) > d["body_length"] / 2)  # the battery and its ends
        + 2 * (wide > d["body_width"])
        + (high > d["body_height"])
        + ((free < 0) & ~stacked)
        + (d["legs"] < CAMERA[2])  # the payload and the ground
    )


def drag_areas(d):
    """Drag over dynamic pressure from the front and from above, ``(n,)`` each, m²."""
    body = d["body_width"] * d["body_height"], d["body_width"] * d["body_length"]
    camera = CAMERA[1] * CAMERA[2], 0.0
    tubes = 4 * d["arm"] / SLENDERNESS * tube_length(d)
    legs = 4 * d["arm"] / SLENDERNESS * d["legs"], 0.0
    slant = np.sin(d["angle"]), 1.0  # arms seen from the front are shorter
    motors = 8 * np.prod(motor_size(d), axis=0), 4 * np.pi * motor_size(d)[0] ** 2
    # Boxes and round tubes at these Reynolds numbers (Hoerner, Fluid-Dynamic Drag)
    return tuple(
        1.0 * (b + c + m) + 1.1 * (s * tubes + leg)
        for b, c, m, s, leg in zip(body, camera, motors, slant, legs, strict=True)
    )


def tilt(speed, weight, areas):
    """Angle ``(n,)`` at which thrust holds both weight and drag, and the thrust."""
    pressure, alpha = AIR * speed**2 / 2, 0.0
    for _ in range(6):
        drag = pressure * (areas[0] * np.cos(alpha) + areas[1] * np.sin(alpha))
        alpha = np.arctan(drag / weight)
    return alpha, weight / np.cos(alpha)


def rotor(d, thrust, speed, alpha):
    """Turns (rad/s) and shaft power (W) of one rotor, ``(n,)`` each."""
    area, theta = np.pi * d["diameter"] ** 2 / 4, d["pitch"] / np.pi
    along, through = speed * np.cos(alpha), speed * np.sin(alpha)
    square = thrust / (2 * AIR * area)
    v = np.sqrt(square)
    for _ in range(6):  # Newton's method from above, where the function is convex
        root = np.hypot(along, through + v)
        v = v - (v * root - square) / (root + v * (through + v) / root)
    w = through + INDUCED * v
    lift = AIR * area * d["solidity"]  # per square of the tip speed and unit of its coefficient
    u = (w + np.sqrt(w**2 + 16 * theta * thrust / (lift * LIFT_SLOPE))) / (2 * theta)
    u = np.maximum(u, np.sqrt(thrust / (lift * STALL)))  # stalled blades have to turn faster
    coefficient = 6 * thrust / (lift * u**2)  # of lift, on average
    friction = 0.02 + 0.03 * coefficient**2  # of blades at Reynolds numbers near 50,000
    profile = lift * friction * u**3 / 8 * (1 + 4.65 * (along / u) ** 2)
    return 2 * u / d["diameter"], thrust * w + profile


def motor(d, turns, shaft):
    """Voltage and electric power ``(n,)`` of one motor."""
    k = 60 / (2 * np.pi * d["kv"])  # Nm/A
    size = d["motor"] / 0.055
    resistance = k**2 / (9e-4 * size ** (5 / 3))  # 0.12 ohm for 55 g and a kv of 920
    friction = 0.005 * size  # Nm
    current = (shaft / turns + friction) / k
    voltage = turns * k + current * resistance
    return voltage, voltage * current / 0.95  # of the controller


def fly(d, speed, mass, share):
    """At a speed: current of the battery, what is left as a share of what there is, and power.

    ``share`` of the thrust is in front. Less than nothing is left where the design cannot do it.
    """
    alpha, thrust = tilt(speed, GRAVITY * mass, drag_areas(d))
    voltage, power = zip(
        *(motor(d, *rotor(d, part * thrust / 2, speed, alpha)) for part in (share, 1 - share)),
        strict=True,
    )
    resistance = SAG * d["voltage"] / (d["discharge"] * d["capacity"])
    power = 2 * (power[0] + power[1]) + 8  # of the electronics
    left = 1 - 4 * resistance * power / d["voltage"] ** 2
    terminal = d["voltage"] * (1 + np.sqrt(np.maximum(left, 0))) / 2
    current = power / terminal
    spare_voltage = 1 - np.maximum(*voltage) / terminal
    spare_current = 1 - current / (d["discharge"] * d["capacity"])
    return current, np.minimum(np.minimum(spare_voltage, spare_current), left), power


def top_speed(d, mass, share):
    low, high = np.zeros_like(mass), np.full_like(mass, MAX_SPEED)
    for _ in range(14):  # to 4 mm/s
        middle = (low + high) / 2
        able = fly(d, middle, mass, share)[1] >= 0
        low, high = np.where(able, middle, low), np.where(able, high, middle)
    return low


def outcomes(payload=PAYLOAD, electronics=ELECTRONICS, **design):
    """What designs ``(n,)`` are like, ``(n, 7)``, without noise."""
    d = {name: np.atleast_1d(np.asarray(value, float)) for name, value in design.items()}
    mass, x = weigh(d, payload, electronics)
    share = 0.5 + x / (2 * d["arm"] * np.cos(d["angle"]))
    balanced, share = np.abs(share - 0.5) < 0.48, np.clip(share, 0.02, 0.98)
    hover_current, left, hover_power = fly(d, np.zeros_like(mass), mass, share)
    able = balanced & (left >= 0)
    speed = able * top_speed(d, mass, share)
    current = fly(d, speed, mass, share)[0]
    slower = [part * speed for part in np.linspace(0.15, 1, 12)]
    reach = [v / fly(d, v, mass, share)[0] for v in slower]
    hours = USABLE * d["capacity"]
    columns = {
        "mass": mass,
        "current": current,
        "power": hover_power,
        "hover": able * 60 * hours / hover_current,
        "distance": 3.6 * hours * np.max(reach, axis=0),
        "speed": speed,
        "interferences": interferences(d),
    }
    return np.stack([columns[name] for name in OUTCOMES], axis=-1)


def measured(rng, x):
    """Outcomes ``(n, 7)`` with noise; interferences are counted without."""
    noise = NOISE * (np.array(list(OUTCOMES)) != "interferences")
    return x * (1 + noise * rng.normal(size=x.shape))


def simulator(rng, **design):
    """Measured outcomes ``(n, 7)`` of designs ``(n,)``."""
    return measured(rng, outcomes(**design))
