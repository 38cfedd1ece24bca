function psm_subscribe(address, frames)
%PSM_SUBSCRIBE  Read the newest face embedding in MATLAB and send markers.
%
%   psm_subscribe()
%   psm_subscribe("tcp://127.0.0.1:50120", 100)
%
%   Uses MATLAB's Python interface, so that ZeroMQ, headers and clocks are the tested Python client's:
%     1. tell MATLAB which Python:   pyenv(Version="/path/to/python")      (R2019b or later)
%     2. in that Python:             pip install pyzmq msgpack numpy
%     3. copy the folder stream/psm_stream/client next to this file, under the name psm_client
%   See README.md in this folder for a way without Python.
%
%   Written from MATLAB's documentation; it has not been run in MATLAB by its authors.

if nargin < 1, address = "tcp://127.0.0.1:50120"; end
if nargin < 2, frames = 100; end

here = fileparts(mfilename("fullpath"));
if count(py.sys.path, here) == 0
    insert(py.sys.path, int32(0), here);
end

control = py.psm_client.Control(address);
reader = py.psm_client.LatestReader(address);
cleanup = onCleanup(@() close_all(control, reader));

control.marker("matlab start");
for k = 1:frames
    message = reader.read(1.0);                     % the newest frame, or None after 1 s
    if isa(message, "py.NoneType")
        disp("no frames");
        continue
    end
    header = message.header;                        % a Python dict; the keys are in docs/wire.md
    if double(header{"face_id"}) < 0
        fprintf("frame %6d  no face: %s\n", int64(header{"frame_index"}), string(header{"reason"}));
        continue
    end
    vector = double(message.array);                 % 1 x 256
    age_ms = (double(py.time.monotonic()) - double(header{"t_capture"})) * 1000;   % same machine, same clock
    fprintf("frame %6d  %5.1f ms old  length %8.3f\n", int64(header{"frame_index"}), age_ms, norm(vector));
end
control.marker("matlab end");
end

function close_all(control, reader)
control.close();
reader.close();
end
