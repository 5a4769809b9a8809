"""ROS 1 and ROS 2 bags, and MCAP files of ROS messages."""
